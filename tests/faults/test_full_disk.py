"""A full disk, or a folder that has gone, costs a training neither its end nor its earlier checkpoints and curves."""

import csv
import logging
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from curves import read
from omegaconf import DictConfig

from lossframe import InputError
from lossframe.loggers.csv import ResumableCSVLogger
from lossframe.loggers.position import Position
from lossframe.loggers.stage_writer import StageWriter
from lossframe.loggers.tensorboard import LazyTensorBoardLogger
from lossframe.loggers.tolerance import tolerant
from lossframe.training.run import run

Configure = Callable[..., DictConfig]
BRIEF = ["trainer.max_epochs=4", "trainer.limit_train_batches=3", "trainer.limit_val_batches=1", "log_every=1"]


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """Let no file grow beyond a size: the kernel writes up to there, and then refuses, as on a full disk."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def test_points_that_a_full_disk_refuses_are_written_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    board = LazyTensorBoardLogger(tmp_path, name="", version="")
    table = tolerant(ResumableCSVLogger(tmp_path, name="", version="csv"))
    writer = StageWriter("samples")

    def write(step: int, scalars: dict[str, float]) -> None:
        writer.write([board, table], "train", scalars, {}, Position(step, step, 0))

    for step in range(40):
        if step == 5:  # in the midst of an event, and of a row
            sizes = [
                path.stat().st_size for path in (next((tmp_path / "train").iterdir()), tmp_path / "csv/metrics.csv")
            ]
        if 5 <= step < 10:
            for size in sizes:
                with files_end_at(size + 7):
                    write(step if size == sizes[0] else 100 + step, {"loss/a": float(step)})
        else:
            write(step, {"loss/a": float(step)} | ({"loss/b": 1.0} if step > 20 else {}))
    writer.close()
    steps = sorted([*range(40), *range(105, 110)])
    assert sorted(step for step, _ in read(tmp_path / "train")["loss/a"]) == steps
    with (tmp_path / "csv" / "metrics.csv").open() as file:
        assert sorted(int(row["step"]) for row in csv.DictReader(file)) == steps
    assert "The training goes on, and tries again" in caplog.text
    assert "works again after" in caplog.text


def test_disk_that_is_full_at_the_first_point_raises_its_error(tmp_path: Path) -> None:
    writer = StageWriter("samples")
    with files_end_at(10), pytest.raises(OSError, match="too large"):
        writer.write([LazyTensorBoardLogger(tmp_path, name="", version="")], "train", {"a": 1.0}, {}, Position(1, 1, 0))


class Filling(pl.Callback):
    """Lets no file grow beyond a size in some epochs; publishes a score by which the latest epoch is the best."""

    def __init__(self, epochs: list[int]) -> None:
        self.epochs = epochs
        self.limit: Any = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch in self.epochs and self.limit is None:
            self.limit = files_end_at(4000)
            self.limit.__enter__()
        elif trainer.current_epoch not in self.epochs:
            self.teardown(trainer, pl_module, "fit")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.callback_metrics["train/latest"] = torch.tensor(float(trainer.current_epoch))

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self.limit is not None:
            self.limit.__exit__(None, None, None)
            self.limit = None


def filling(epochs: str) -> list[str]:
    """Return the overrides of a run whose disk is full in some epochs."""
    return [
        *BRIEF, f"+callbacks.filling._target_={__name__}.Filling", f"+callbacks.filling.epochs={epochs}",
        "checkpoint_monitor.metric=train/latest", "checkpoint_monitor.mode=max",
    ]  # fmt: skip


def test_disk_that_is_full_for_two_epochs_is_tried_again(
    configure: Configure, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(configure(*filling("[1,2]")))
    for name in ("best.ckpt", "last.ckpt"):
        assert f"{name} fails: OSError: [Errno 27] File too large" in caplog.text
        assert f"{name} works again after 2 failures" in caplog.text
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 3
    steps = [step for step, _ in read(tmp_path / "train")["loss/total"]]
    assert sorted(steps) == [80 * (k + 1) for k in range(12)], "no point is lost"


def test_last_checkpoints_that_are_not_written_end_the_run_with_an_error(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the last 'best.ckpt', 'last.ckpt' could not be written \(\[Errno 27\]"):
        run(configure(*filling("[2,3]"), "logger=csv"))
    folder = tmp_path / "checkpoints"
    best, last = (torch.load(folder / f"{name}.ckpt", weights_only=True) for name in ("best", "last"))
    assert best["epoch"] == last["epoch"] == 1
    (state,) = (state for name, state in last["callbacks"].items() if "Movable" in name)
    assert state["best_model_score"] == best["epoch"]
    assert not list(folder.glob("*.new"))


class Vanishing(pl.Callback):
    """Removes the folder of a run when its second epoch starts."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 1:
            shutil.rmtree(trainer.default_root_dir)


def test_folder_that_vanishes_is_made_again(
    configure: Configure, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(configure(*BRIEF, f"+callbacks.vanishing._target_={__name__}.Vanishing", f"run_dir={tmp_path / 'run'}"))
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 3
    assert {"metrics.json", "csv", "train", "checkpoints"} <= {path.name for path in (tmp_path / "run").iterdir()}
    assert "train/loss/total" in (tmp_path / "run" / "csv" / "metrics.csv").read_text().splitlines()[0]


class Blocking(pl.Callback):
    """Puts a file where the folder of checkpoints was, so that none can be written, also not by root."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        folder = Path(trainer.default_root_dir) / "checkpoints"
        if trainer.current_epoch == 2:
            folder.rename(folder.with_name("moved"))
            folder.touch()


def test_folder_that_takes_no_checkpoint_ends_the_run_after_training(
    configure: Configure, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises((InputError, OSError), match=r"best\.ckpt"):
        run(configure(*BRIEF, f"+callbacks.blocking._target_={__name__}.Blocking"))
    caplog.set_level(logging.WARNING)
    assert caplog.text.count("last.ckpt fails: ") == 1
    assert torch.load(tmp_path / "moved" / "last.ckpt", weights_only=True)["epoch"] == 1
