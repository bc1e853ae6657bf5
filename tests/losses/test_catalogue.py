"""Every loss has an export, a file in conf/loss and a row in tests/table.py; what is missing is named."""

import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest
from conftest import ROOT
from omegaconf import DictConfig, OmegaConf
from table import TABLE

from lossframe import Loss
from lossframe import losses as catalogue
from lossframe.losses.base.loss import positional_parameters

LOSSES = [loss for _, loss in inspect.getmembers(catalogue, inspect.isclass) if loss not in catalogue.WRAPPERS]
NAMES = {loss.__name__ for loss in LOSSES}
FAMILIES = [
    importlib.import_module(f"{catalogue.__name__}.{module.name}")
    for module in pkgutil.iter_modules(catalogue.__path__)
    if module.name not in ("native", "wrappers")  # what they wrap is passed by the user
]


def configs() -> dict[str, Path]:
    """Return the file for each target."""
    files = sorted((ROOT / "conf" / "loss").glob("*.yaml"))
    return {OmegaConf.load(file).loss[file.stem]["_target_"]: file for file in files}


def missing(loss: type[Loss]) -> list[str]:
    """Say what a loss still needs."""
    name = loss.__name__
    found = [] if name in catalogue.__all__ else [f"{name} in lossframe.losses.__all__"]
    found += [] if loss in TABLE else [f"a row for {name} in tests/table.py"]
    file = configs().get(f"lossframe.losses.{name}")
    if file is None:
        return [*found, f"a file in conf/loss with _target_: lossframe.losses.{name}"]
    config = OmegaConf.load(file)
    assert isinstance(config, DictConfig)
    listed = {
        f"loss.{file.stem}": (set(config.loss[file.stem]) - {"_target_"}, set(positional_parameters(loss.__init__))),
        f"inputs.{file.stem}": (set(config.inputs[file.stem]), {*loss.reads, "weight"}),
        "weights": (set(config.weights), {file.stem}),
    }
    for key, (given, wanted) in listed.items():
        found += [f"{key}.{entry} in {file.name}" for entry in sorted(wanted - given)]
        found += [f"{key}.{entry} out of {file.name}" for entry in sorted(given - wanted)]
    return found


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_every_loss_has_export_configuration_and_row(loss: type[Loss]) -> None:
    assert not missing(loss), f"wanted {', '.join(missing(loss))}"


def test_missing_parts_of_a_new_loss_are_named() -> None:
    class NewcomerLoss(Loss):
        def loss(self) -> None: ...

    assert missing(NewcomerLoss) == [
        "NewcomerLoss in lossframe.losses.__all__",
        "a row for NewcomerLoss in tests/table.py",
        "a file in conf/loss with _target_: lossframe.losses.NewcomerLoss",
    ]


def test_every_concrete_loss_of_a_family_is_exported() -> None:
    written = {
        name
        for module in FAMILIES
        for name, loss in inspect.getmembers(module, inspect.isclass)
        if issubclass(loss, Loss) and not inspect.isabstract(loss) and loss.__module__ == module.__name__
    }
    assert written == NAMES


def test_every_configuration_is_of_a_loss() -> None:
    assert set(configs()) == {f"lossframe.losses.{name}" for name in NAMES}


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_configuration_equals_the_defaults_of_the_class(loss: type[Loss]) -> None:
    file = configs()[f"lossframe.losses.{loss.__name__}"]
    given = OmegaConf.to_container(OmegaConf.load(file), resolve=False)["loss"][file.stem]  # type: ignore[index,call-overload]
    for name, parameter in inspect.signature(loss.__init__).parameters.items():
        if name in given and parameter.default is not parameter.empty:
            assert given[name] == parameter.default, f"{file.name}: {name}"
