"""Every loss trains on the default data and model, or the error names an experiment that provides what it reads."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from conftest import ROOT
from omegaconf import DictConfig
from typed import of_run, refusal, typed

from lossframe import InputError, Objective
from lossframe.data import BreastCancer, Diabetes, DigitHalves, Digits, Mnist5k
from lossframe.losses import MSELoss
from lossframe.models import ConvEmbedder
from lossframe.training import preflight
from lossframe.training.run import run

Configure = Callable[..., DictConfig]
BRIEF = [f"trainer.limit_{stage}_batches=2" for stage in ("train", "val", "test")]
STEP = ("trainer.max_epochs=1", "trainer.num_sanity_val_steps=0", "logger=csv", *BRIEF)
LOSSES = sorted(file.stem for file in (ROOT / "conf" / "loss").glob("*.yaml"))
FOR_ANY_DATA = {"regression", "classification"}  # test_data_facts trains them on tables of a user's own
EXPERIMENTS = sorted({file.stem for file in (ROOT / "conf" / "experiment").glob("*.yaml")} - FOR_ANY_DATA)
ROWS = {"triplet_margin", "pair_contrastive"}  # of pairs or triplets made elsewhere: no data set here has any
FED = {"triplet", "center", "cross_entropy", "kappa_log", "dice", "decov"}
UNFED = {"mse", "gaussian_nll", "roc_auc"}
GIVEN = Digits.provides | ConvEmbedder.provides


def outcome(name: str) -> tuple[str, str | None]:
    """Return which choices provide what a loss reads, default ones, an experiment's or none, and the experiment."""
    line = refusal(f"loss={name}")
    if line is None:
        return "default", None
    assert names_what_is_missing(name, line), line
    _, found, experiments = line.partition("; add ")
    return ("experiment", experiments.partition(" ")[0]) if found else ("nothing", None)


def names_what_is_missing(name: str, line: str) -> bool:
    with typed(f"loss={name}") as config:
        objective = preflight.objective_of(of_run(config))
    told = [type(objective.losses[name]).__name__, *map(repr, objective.reads - GIVEN), "Digits", "ConvEmbedder"]
    return all(each in line for each in told)


@pytest.mark.filterwarnings("ignore:no loss trains 'trunk.0.0.bias'")  # but its penalty, of l1_l2_penalty
@pytest.mark.parametrize("name", LOSSES)
def test_loss_trains_or_names_the_experiment_that_feeds_it(configure: Configure, name: str) -> None:
    found, experiment = outcome(name)
    assert (found == "nothing") == (name in ROWS)
    assert found == ("default" if name in FED else "experiment" if name in UNFED else found)
    if name == "categorical_accuracy":
        with pytest.raises(InputError, match="'categorical_accuracy' has no gradient: add a loss"):
            run(configure(f"loss={name}", *STEP))
    elif found != "nothing":
        assert run(configure(f"loss={name}", *([experiment] if experiment else []), *STEP)) is not None


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_trains_and_has_a_readme_with_results(configure: Configure, name: str) -> None:
    assert run(configure(f"experiment={name}", *STEP)) is not None
    text = (ROOT / "experiments" / name / "README.md").read_text()
    assert f"experiment={name}" in text
    assert "| --- |" in text.replace("|---|", "| --- |"), "wanted a table of results"


def test_metric_that_is_not_fed_names_metrics_that_are() -> None:
    line = refusal("data=breast_cancer", "model=mlp", "loss=binary_cross_entropy") or ""
    assert line.startswith("metric 'retrieval' reads 'embeddings', which")
    assert "; choose metrics=binary or metrics=" in line


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
