"""Command lines whose characters are changed, and configurations with random values under random keys."""

import shlex
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import lossframe.training.run_folder.hydra_defaults  # noqa: F401 - registers what conf/ reads
from fuzzing import damage
from fuzzing.chance import Chance
from fuzzing.endings import FailureError, ending
from lossframe import configs
from lossframe.callbacks.unsaved import TolerantCheckpointIO
from lossframe.training import run
from lossframe.training.checks import composed as checks
from lossframe.training.checks import model_contract, preflight, provision, signatures
from lossframe.training.checks.user_errors import explain
from lossframe.training.configuration import composition
from lossframe.training.configuration.arguments import normalised

BASES = (
    "loss=triplet", "loss=cross_entropy metrics=classification callbacks=[default,confusion,hard_samples]",
    "experiment=diabetes",
    "experiment=autoencoder callbacks=[default,early_stopping,ema]", "experiment=pairs", "scheduler=step",
    "loss=[triplet,center] callbacks=[default,retrieval,embeddings] optimizer=sgd scheduler=cosine",
    "experiment=density logger=csv", "experiment=breast_cancer callbacks=[default,lr_monitor,model_summary]",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2**70, 1.5, 1e9, float("nan"), float("inf"), "text", "", "a b", "${seed}", "${nope}",
    "???", "null", [], [1], [None], ["a", 2.0], {}, {"a": 1}, {"_target_": "os.getcwd"}, {"_target_": "nope"}, "é\n",
    {"_target_": 3}, "../x", [[1]], -0.0, "1e-3",
)  # fmt: skip

run.silence()
configuration = cache(lambda base: composed(shlex.split(base)))


def composed(overrides: list[str]) -> DictConfig:
    """Compose a configuration with overrides, of a run in the folder `run`."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs.root()), version_base="1.3"):
        return compose(
            "train", [*overrides, "trainer.enable_progress_bar=false", "run_dir=run"], return_hydra_config=True
        )


def checked(config: DictConfig, part: str) -> None:
    """Check a configuration as a run does, and make one part of it: the objective, the data, the model and so on."""
    checks.check(config)
    config = composition.prepared(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))
    preflight.check_composition(config)
    checks.check_seed(config.seed)
    signatures.check(config)
    _MAKERS.get(part, lambda config: run._trainer(config, [], TolerantCheckpointIO()))(config)


def _optimise(config: DictConfig) -> None:
    from lossframe.training import reconfigured

    optimizer = reconfigured.make("optimizer", instantiate(config.optimizer), [torch.nn.Parameter(torch.zeros(2))])
    if config.scheduler:
        reconfigured.make("scheduler", instantiate(config.scheduler), optimizer)


_MAKERS: dict[str, Callable[[DictConfig], Any]] = {
    **dict.fromkeys(("loss", "weights", "inputs", "balance"), provision.objective_of),
    **dict.fromkeys(("optimizer", "scheduler"), _optimise),
    "data": lambda config: instantiate(config.data),
    "model": lambda config: model_contract.build(config.model, ["embeddings"]),
    "callbacks": lambda config: instantiate(config.callbacks, _convert_="all"),
    "metrics": lambda config: instantiate(config.metrics, _convert_="all"),
}


def of_values(chance: Chance, folder: Path) -> str:
    """Set a random key of a configuration, or several, to random values."""
    config = configuration(chance.choose(*BASES)).copy()
    keys = [key for key, _ in configs.leaves(OmegaConf.to_container(config, resolve=False)) if "hydra" not in key]
    key = chance.choose(*keys)
    if chance.often(0.2):
        key = key.rpartition(".")[0] or key
    if chance.often(0.1):
        key = damage.of_text(key, chance, 1)
    value = chance.choose(*VALUES)
    title = f"{key}={value!r}"

    def change() -> None:
        try:
            OmegaConf.update(config, key, value, merge=chance.often(0.5), force_add=chance.often(0.2))
        except (OmegaConfBaseException, ValueError, AssertionError, TypeError, IndexError):
            return  # a key that OmegaConf has not
        _written_out(lambda: checked(config, key.partition(".")[0]), config)

    return _titled(title, change)


def _written_out(function: Callable[[], None], config: DictConfig) -> None:
    """Call a function; an error must be one that can be explained with the configuration at hand."""
    try:
        function()
    except Exception as error:
        explain(error, config)
        raise


def _titled(title: str, function: Callable[[], Any]) -> str:
    try:
        return ending(function)
    except FailureError as error:
        raise FailureError(f"{title[:300]}: {error}") from error


@cache
def documented() -> list[str]:
    """Return the arguments of the documents' commands that train one run."""
    import snippets

    shell = [block for page in snippets.documents() for block in snippets.blocks(page) if block.language == "sh"]
    found = dict.fromkeys(command for block in shell for command in block.commands())
    return [each.removeprefix("lossframe train ") for each in found if each.startswith("lossframe train ")]


def mutated(chance: Chance) -> list[str]:
    """Return arguments of a documented command, one of which is changed, or the command line as a whole."""
    line = chance.choose(*documented())
    if chance.often(0.3):
        try:
            return shlex.split(damage.of_text(line, chance)) or [""]
        except ValueError:  # of quotes that are not closed, about which a shell asks
            pass
    arguments = shlex.split(line)
    place = chance.random.randrange(len(arguments))
    arguments[place] = damage.of_text(arguments[place], chance)
    return arguments


def of_overrides(chance: Chance, folder: Path) -> str:
    """Read the form of a changed command line, and compose what has the form of one."""
    arguments = mutated(chance)

    def read() -> None:
        overrides = normalised(arguments)
        if chance.often(0.05) and not any(each.startswith("-") or "hydra" in each for each in overrides):
            config = composed(overrides)
            _written_out(lambda: checks.check(config), config)

    return _titled(shlex.join(arguments), read)
