"""A configuration is brought into one form, and what nothing would read is refused."""

import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from typed import of_run, refusal, typed

from lossframe import Objective, configs
from lossframe.losses import BatchAllTripletLoss
from lossframe.training.checks import provision
from lossframe.training.configuration import composition

sys.path.insert(0, str(ROOT / "scripts"))
import snippets

IGNORED = {
    "+foo=1": "foo: nothing reads this key",
    "+foo.bar=1": "foo: nothing reads this key",
    "+weight.triplet=2": "Did you mean 'weights'?",
    "+loses.triplet.margin=2": "Did you mean 'loss'?",
    "+checkpoint_monitor.patience=2": "checkpoint_monitor.patience: nothing reads this key",
    "+metrics.retrieval.read=[labels]": "Did you mean 'reads'?",
    "+metrics.foo=1": "metrics.foo: wanted a mapping with the keys 'reads' and 'metric'",
    "metrics.retrieval=null": "none by metrics=[]",
    "+callbacks.foo=1": "callbacks.foo: wanted a mapping with a _target_",
    "+logger.foo={a:1}": "logger.foo: wanted a mapping with a _target_",
    "+loss.foo=1": "loss.foo=1: wanted a mapping with a _target_",
    "+loss.foo={margin:1}": "term 'foo' is a mapping of 'margin' without _target_",
    "+weights.x=1": "weights.x: wanted the name of a term",
    "+inputs.x.labels=labels": "inputs.x: wanted the name of a term",
    "+inputs.triplet.lables=labels": "Did you mean 'labels'?",
    "inputs.triplet.weight=2": "the weight of the whole term is weights.triplet",
    "inputs.triplet=labels": "inputs.triplet=labels: wanted a mapping",
    "loss=supcon inputs.supcon.views=vews": "SupConLoss reads 'vews'",
    "weights=1": "weights=1: wanted a mapping",
    "weights=high": "weights=high: wanted a mapping",
    "inputs=3": "inputs=3: wanted a mapping",
    "+loss@other=[mse,l1]": "wanted one loss, found 'mse', 'l1'",
    "+loss@triplet=mse": "there is a term 'triplet' already",
    "+loss=mse": "wanted loss=CHOICE, without a plus",
    "loss.triplet=null": "at least one loss",
    "loss.triplet.margin=null": "loss.triplet.margin=null: wanted a number, found null",
    "loss.triplet.margin=[1]": "loss.triplet.margin=[1]: wanted a number",
    "loss.triplet.margin={a:1}": "wanted a number, found",
    "loss.triplet.margin=true": "wanted a number, found true",
}


@pytest.mark.parametrize("command", IGNORED)
def test_key_that_would_be_ignored_is_refused(command: str) -> None:
    line = refusal(*command.split())
    assert line is not None
    assert IGNORED[command] in line


@pytest.mark.parametrize(
    "command",
    [
        "callbacks.checkpoint=null", "callbacks.monitor=null callbacks.hparams=null", "logger.csv=null", "seed=2",
        "+size=32 model.embedding_size=${size}", "+own={a:2} optimizer.lr=${own.a}", "loss=nt_xent",
        "loss=[triplet,center] loss.center=null",
    ],
)  # fmt: skip
def test_key_that_is_read_or_left_out_is_accepted(command: str) -> None:
    assert refusal(*command.split()) is None


@pytest.mark.parametrize("chosen", ["+loss@wide=triplet", "+loss@loss.wide=triplet"])
def test_loss_under_a_name_of_ones_own_is_a_term_of_this_name(chosen: str) -> None:
    package = chosen.partition("@")[2].partition("=")[0]
    added = [f"{package}.loss.triplet.margin=1.0", f"{package}.inputs.triplet.embeddings=features", "+weights.wide=0.5"]
    with typed(chosen, *added) as config:
        found = of_run(config)
        assert composition.prepared(found) == found
        assert set(composition.terms(config)) == set(found.loss) == {"triplet", "wide"}
        objective = provision.objective_of(found)
    wide, plain = (objective.losses[name] for name in ("wide", "triplet"))
    assert isinstance(wide, BatchAllTripletLoss)
    assert (wide.margin, plain.margin) == (1.0, 0.2)
    assert dict(objective.weights) == {"wide": 0.5, "triplet": 1.0}
    assert objective.inputs["wide"]["embeddings"] == "features"


def test_misspelt_loss_of_a_list_proposes_one_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text((ROOT / "conf/loss/mse.yaml").read_text().replace("mse", "mine"))
    line = refusal(f"hydra.searchpath=[file://{tmp_path}]", "loss=[mne]") or ""
    assert "Did you mean 'mine'?" in line


@pytest.mark.parametrize(
    "content", ["loss: {mine: {_target_: lossframe.losses.MSELoss}}\nweights: {mine: 1}", "_target_: x"]
)
def test_loss_file_without_a_package_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text(content)
    line = refusal(f"hydra.searchpath=[file://{tmp_path}]", "loss=mine") or ""
    assert "begin a loss file NAME.yaml by '# @package _global_'" in line


OWN = [*configs.choices("loss"), "[triplet,cross_entropy]", "[mse,l1,center]"]


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the configuration of the documents' application of one's own."""
    folder = tmp_path_factory.mktemp("application")
    content = yaml.safe_load(snippets.marked("hydra"))
    content["hydra"] = {"searchpath": [f"file://{ROOT / 'conf'}"]}  # of the checkout
    (folder / "config.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder


@pytest.mark.parametrize("chosen", OWN)
def test_documented_application_builds_the_objective_of_any_loss(application: Path, chosen: str) -> None:
    with initialize_config_dir(str(application), version_base="1.3"):
        cfg: DictConfig = compose("config", [f"loss={chosen}"])
    objective = Objective(instantiate(cfg.loss), cfg.weights, cfg.inputs)
    assert [*objective.losses] == chosen.strip("[]").split(",")
