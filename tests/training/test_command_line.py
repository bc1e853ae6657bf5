"""What is typed is read in any order, a run lands where it was told to, and numbers out of range are refused."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from lossframe import InputError, LossMonitor, configs
from lossframe.callbacks.progress_bar import ProgressBar
from lossframe.models import ConvEmbedder, Mlp
from lossframe.training import launch
from lossframe.training.configuration.arguments import UsageError, normalised
from lossframe.training.run_folder import run_dir

SIZES = {"${data.num_classes}": 10, "${model.embedding_size}": 64, "${model.num_mixtures}": 5}


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", list(overrides), return_hydra_config=True)


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        (["loss=mse", "-m", "seed=1,2"], ["-m", "loss=mse", "seed=1,2"]),
        (["a=1", "--config-dir", "mine", "b=2"], ["--config-dir", "mine", "a=1", "b=2"]),
        (["experiment=null", "loss=mse"], ["loss=mse"]),
        (["scheduler=null"], ["scheduler=none"]),
        *[([f"{group}=null"], [f"{group}=[]"]) for group in ("logger", "callbacks", "metrics")],
    ],
)
def test_arguments_in_any_order_are_read(typed: list[str], read: list[str]) -> None:
    assert normalised(typed) == read


def test_brackets_without_end_are_refused_in_a_short_line() -> None:
    with pytest.raises(
        UsageError, match=r"^loss=\[+\.\.\.: wanted GROUP=CHOICE or KEY=VALUE, without spaces$"
    ) as caught:
        normalised(["loss=" + "[" * 3000])
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        ([], "runs/triplet_"),
        (["run_dir=mine"], "mine"),
        (["ckpt=old/checkpoints/last.ckpt", "run_dir=mine"], str(Path("old").absolute())),
    ],
)
def test_run_lands_where_it_was_told_to(overrides: list[str], wanted: str) -> None:
    assert composed(*overrides).hydra.run.dir.startswith(wanted)


@pytest.mark.parametrize(("overrides", "wanted"), [([], "runs/sweep_"), (["run_dir=mine"], "mine")])
def test_sweep_lands_where_it_was_told_to(overrides: list[str], wanted: str) -> None:
    assert composed(*overrides).hydra.sweep.dir.startswith(wanted)


def test_start_of_a_sweep_is_the_same_in_a_process_that_starts_later(monkeypatch: pytest.MonkeyPatch) -> None:
    config = composed()
    first = config.hydra.sweep.dir
    handed_over = pickle.dumps(config)
    launch.started.cache_clear()
    monkeypatch.setattr(launch.time, "strftime", lambda form: "later")
    later = composed()
    OmegaConf.clear_cache(later)
    assert later.hydra.sweep.dir == "runs/sweep_later"
    OmegaConf.copy_cache(pickle.loads(handed_over), later)  # as Hydra does for each job
    assert later.hydra.sweep.dir == first
    launch.started.cache_clear()


def test_refused_run_takes_its_empty_parents_along(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "first"
    folder.mkdir(parents=True)
    (folder / "train.log").touch()
    assert run_dir.is_fresh(folder)
    run_dir.discard(folder, tmp_path)
    assert list(tmp_path.iterdir()) == []
    folder.mkdir(parents=True)
    (folder / run_dir.RESOLVED).touch()
    run_dir.discard(folder, tmp_path)
    run_dir.discard(tmp_path, tmp_path)
    assert (folder / run_dir.RESOLVED).exists()


def test_path_below_the_start_is_printed_relative(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run_dir, "_STARTED_IN", tmp_path)
    assert run_dir.as_typed(tmp_path / "runs" / "a b") == "'runs/a b'"
    assert run_dir.as_typed("/elsewhere") == "/elsewhere"


@pytest.mark.parametrize("columns", [60, 80, 100, 200])
def test_bar_shows_only_whole_numbers_of_the_total_first(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    numbers = {f"train/loss/{name}": 0.123456 for name in ("total", "triplet", "center", "x" * 30)}
    monkeypatch.setattr(pl.callbacks.TQDMProgressBar, "get_metrics", lambda *_: {"v_num": 1, **numbers, "val/map": 0.5})
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = ProgressBar().get_metrics(pl.Trainer(logger=False, enable_checkpointing=False), pl.LightningModule())
    assert list(shown)[:1] == ["total"]
    assert sum(len(f", {name}={value:.3g}") for name, value in shown.items()) <= columns - 40
    assert ("map" in shown) == (columns == 200)


@pytest.mark.parametrize("name", configs.choices("loss"))
def test_number_out_of_range_is_refused_by_the_constructor(name: str) -> None:
    node = configs.read(f"loss/{name}")["loss"][name]
    given = {key: SIZES.get(str(value), value) for key, value in node.items() if key not in ("_target_", "dim")}
    given = {key: float(value) if str(value).startswith("1e-") else value for key, value in given.items()}
    numbers = [key for key, value in given.items() if isinstance(value, int | float) and not isinstance(value, bool)]
    for key in set(numbers) - {"ignore_index"}:
        for wrong in (-1, float("nan"), float("inf"), None, "1"):
            if (key, wrong) != ("alpha", None) or name == "center":  # alpha=None leaves binary_focal unweighted
                with pytest.raises(InputError, match=f"{key}"):
                    get_class(node["_target_"])(**{**given, key: wrong})


@pytest.mark.parametrize("wrong", [0, -1, 2.5, None, "3"])
@pytest.mark.parametrize(
    ("make", "given", "keys"),
    [
        (ConvEmbedder, {"image_shape": [1, 8, 8], "num_classes": 3}, ["embedding_size", "width", "num_mixtures"]),
        (Mlp, {"num_inputs": 2, "num_outputs": 2}, ["num_inputs", "num_outputs", "hidden"]),
        (LossMonitor, {}, ["log_every"]),
    ],
)
def test_count_that_is_no_count_is_refused(make: Any, given: dict[str, Any], keys: list[str], wrong: Any) -> None:
    for key in keys:
        with pytest.raises(InputError, match=f"wanted {key} >= 1"):
            make(**{**given, key: wrong})
