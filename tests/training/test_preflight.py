"""Every loss trains by the command on its page, and an error names an experiment that provides what a loss reads."""

import shlex
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from conftest import ROOT
from omegaconf import DictConfig
from typed import refusal

from lossframe import InputError, Objective
from lossframe.data import BreastCancer, Diabetes, DigitHalves, Digits, Mnist5k
from lossframe.losses import MSELoss, catalogue
from lossframe.models import ConvEmbedder
from lossframe.training.checks import preflight
from lossframe.training.run import run

sys.path.insert(0, str(ROOT / "scripts"))
import loss_table

Configure = Callable[..., DictConfig]
BRIEF = [f"trainer.limit_{stage}_batches=2" for stage in ("train", "val", "test")]
STEP = ("trainer.max_epochs=1", "trainer.num_sanity_val_steps=0", "logger=csv", *BRIEF)
FOR_ANY_DATA = {"regression", "classification"}  # test_data_facts trains them on tables of a user's own
EXPERIMENTS = sorted({file.stem for file in (ROOT / "conf" / "experiment").glob("*.yaml")} - FOR_ANY_DATA)


@pytest.mark.parametrize("entry", catalogue.entries(), ids=lambda entry: entry.name)
def test_loss_trains_by_the_command_on_its_page(configure: Configure, entry: catalogue.Entry) -> None:
    assert run(configure(*shlex.split(" ".join(loss_table.command(entry))), *STEP)) is not None


def test_loss_without_data_names_what_is_missing_and_the_experiment_that_has_it() -> None:
    line = refusal("loss=pair_contrastive")
    wanted = "PairContrastiveLoss reads 'distance', 'target', which Digits and ConvEmbedder do not give"
    assert line == f"{wanted}; add experiment=pairs"


def test_loss_without_a_gradient_is_an_input_error(configure: Configure) -> None:
    with pytest.raises(InputError, match="'categorical_accuracy' has no gradient: add a loss"):
        run(configure("loss=categorical_accuracy", *STEP))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_trains_and_has_a_readme_with_results(configure: Configure, name: str) -> None:
    assert run(configure(f"experiment={name}", *STEP)) is not None
    text = (ROOT / "experiments" / name / "README.md").read_text()
    assert f"experiment={name}" in text
    assert "| --- |" in text.replace("|---|", "| --- |"), "wanted a table of results"


def test_metric_that_is_not_fed_names_metrics_that_are() -> None:
    line = refusal("data=diabetes", "model=mlp", "loss=mse") or ""
    assert line == "metric 'retrieval' reads 'labels', which Diabetes and Mlp do not give; choose metrics=regression"


def test_parameters_that_no_loss_trains_are_named_in_a_warning(configure: Configure) -> None:
    config = configure("loss=triplet", "metrics=[retrieval,classification]", *STEP)
    with pytest.warns(UserWarning, match=r"no loss trains 'classify.weight', 'classify.bias' of the model: add a loss"):
        run(config)


def test_data_or_model_without_provides_is_not_checked() -> None:
    mse = Objective({"mse": MSELoss()})
    preflight.check_entries(mse, {}, SimpleNamespace(), ConvEmbedder)
    preflight.check_entries(mse, {}, Digits, SimpleNamespace())
    preflight.check_entries(mse, {}, SimpleNamespace(provides={"target"}), SimpleNamespace(provides={"prediction"}))
    with pytest.raises(InputError, match="MSELoss reads 'prediction', which SimpleNamespace and SimpleNamespace"):
        preflight.check_entries(mse, {}, SimpleNamespace(provides={"target"}), SimpleNamespace(provides={"image"}))


@pytest.mark.parametrize("kind", [BreastCancer, Diabetes, DigitHalves, Digits, Mnist5k])
def test_data_module_gives_the_entries_that_it_provides(kind: type) -> None:
    data = kind()
    data.setup()
    assert next(iter(data.train_dataloader())).keys() == kind.provides
