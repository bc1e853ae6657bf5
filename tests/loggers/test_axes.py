"""Points are on the x axis that the user chose, and rows on the steps of metrics that the module logs itself."""

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from curves import read
from tensorboard.summary.writer import event_file_writer
from torch import Tensor, nn
from trainers import tiny_trainer

from lossframe import InputError, LossMonitor
from lossframe.loggers.csv import ResumableCSVLogger
from lossframe.loggers.position import Position
from lossframe.losses import MSELoss

BATCH, BATCHES = 4, 6


@pytest.fixture(autouse=True)
def in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Number event files from 1000, because TensorBoard reads those of one second by name: 10 before 9."""
    counter = event_file_writer.AtomicCounter(1000)
    monkeypatch.setattr(event_file_writer, "_global_uid", counter)


class Module(pl.LightningModule):
    """Logs each batch and each epoch itself, and trains with a loss that the monitor logs."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))
        self.criterion = MSELoss()

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = self.criterion(self.gain * batch, 0 * batch)
        self.log("mine", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("mine_val", self.criterion(self.gain * batch, 0 * batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Loader:
    """Loads the same batches in each epoch, and continues in the middle of an epoch."""

    def __init__(self) -> None:
        self.first = self.done = 0

    def __len__(self) -> int:
        return BATCHES

    def __iter__(self) -> Iterator[Tensor]:
        first, self.first = self.first, 0
        for k in range(first, BATCHES):
            self.done = k + 1
            yield torch.arange(BATCH) + 0.1 * k

    def state_dict(self) -> dict[str, int]:
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.first = state["done"] % BATCHES


def fit(folder: Path, x: str, prefix: str = "", log_every: int = 2, ckpt: Any = None, **options: Any) -> Any:
    """Train with TensorBoard and CSV below `folder`; return the trainer."""
    loggers = [pl.loggers.TensorBoardLogger(folder, name="", version="", prefix=prefix)]
    loggers.append(ResumableCSVLogger(folder, name="", version="csv", prefix=prefix))
    callbacks = [LossMonitor(log_every=log_every, x=x), *options.pop("more", [])]
    trainer = tiny_trainer(folder, callbacks, logger=loggers, num_sanity_val_steps=0, **options)
    trainer.fit(Module(), Loader(), Loader(), ckpt_path=ckpt)
    return trainer


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "csv" / "metrics.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]


PLACES = {
    "samples": ([8, 16, 24, 32, 40, 48], [24, 48]),
    "steps": ([1, 3, 5, 7, 9, 11], [5, 11]),
    "epochs": ([0, 1], [0, 1]),
}


@pytest.mark.parametrize("x", PLACES)
def test_points_of_tensorboard_are_on_the_chosen_axis(x: str, tmp_path: Path) -> None:
    fit(tmp_path, x, max_epochs=2)
    curves = {stage: read(tmp_path / stage) for stage in ("train", "val")}
    for stage, wanted in zip(curves, PLACES[x], strict=True):
        assert [step for step, _ in curves[stage]["loss/mse"]] == wanted
    own = read(tmp_path)
    if x == "steps":
        values = dict(own["mine_val"])
        assert {step: values[step] for step, _ in curves["val"]["loss/mse"]} == pytest.approx(values)


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}, {"val_check_interval": 2}, {"max_steps": 9}])
def test_rows_have_the_step_of_metrics_that_the_module_logs(options: dict[str, Any], tmp_path: Path) -> None:
    fit(tmp_path, "samples", log_every=1, **({"max_epochs": 2} | options))
    columns: dict[str, dict[int, float]] = defaultdict(dict)
    for row in rows(tmp_path):
        for name in row.keys() - {"step", "epoch", "samples_seen"}:
            columns[name][int(row["step"])] = float(row[name])
            assert row.keys() >= {"step", "epoch"}
            assert ("samples_seen" in row) == (name.partition("/")[0] in ("train", "val"))
    assert columns["val/loss/mse"] == pytest.approx(columns["mine_val"])
    if "accumulate_grad_batches" not in options:  # several batches have one step
        assert columns["train/loss/mse"] == pytest.approx(columns["mine_step"])


class Dies(pl.Callback):
    """Ends a training in the middle of an epoch, after points beyond the checkpoint were written."""

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 10:
            raise RuntimeError("died")


def numbers(folder: Path) -> Any:
    speed = {"train/samples_per_second", "mine-train/samples_per_second"}
    table = [{key: value for key, value in row.items() if key not in speed} for row in rows(folder)]
    curves = {stage: read(folder / stage) for stage in ("train", "val")}
    for each in curves.values():
        for tag in [tag for tag in each if tag.endswith("samples_per_second")]:
            del each[tag]
    return sorted(table, key=str), curves


@pytest.mark.parametrize("x", PLACES)
@pytest.mark.parametrize("prefix", ["", "mine"])
@pytest.mark.parametrize("saved", ["in the epoch", "at its end", "after the validation"])
@pytest.mark.filterwarnings("ignore:Experiment logs directory", "ignore:Checkpoint directory")
def test_resumed_run_writes_each_point_once_on_any_axis(saved: str, prefix: str, x: str, tmp_path: Path) -> None:
    when: dict[str, Any] = {"every_n_train_steps": 8} if saved == "in the epoch" else {}
    when |= {"save_on_train_epoch_end": True} if saved == "at its end" else {}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    fit(whole, x, prefix, max_epochs=3)
    first, second = (pl.callbacks.ModelCheckpoint(tmp_path / "saved", **when) for _ in range(2))
    with pytest.raises(RuntimeError, match="died"):
        fit(broken, x, prefix, max_epochs=3, more=[first, Dies()])
    fit(broken, x, prefix, max_epochs=3, more=[second], ckpt=first.best_model_path)
    (table, curves), (wanted, expected) = numbers(broken), numbers(whole)
    assert curves == expected
    if saved == "in the epoch":  # Lightning's mean of a resumed epoch is that of its rest
        table, wanted = ([row for row in each if "epoch" not in str(row.keys())] for each in (table, wanted))
    assert table == wanted


def test_unknown_axis_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"x='step' is no x axis; .*'epochs'\. Did you mean 'steps'"):
        LossMonitor(x="step")
    assert [Position(3, 2, 1).on(axis) for axis in ("samples", "steps", "epochs")] == [3, 2, 1]
