"""Costs of logging: no step waits for the device between drains, and a drain makes one transfer."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from curves import read
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader
from trainers import tiny_trainer

from lossframe import LossMonitor
from lossframe.callbacks.images import HardSamples
from lossframe.losses import BatchAllTripletLoss, CrossEntropyLoss, MSELoss
from lossframe.statistics.accumulator import HostCopy

SHOWN = {"log_std": True, "log_min": True, "log_max": True, "log_quantiles": True}
WAITING = ("aten._local_scalar_dense", "aten.nonzero", "aten.equal", "aten.is_nonzero", "aten.masked_select")
READING = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__")


class Waits(TorchDispatchMode):
    """Counts what would wait for a GPU: operators that read values, and copies to another device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        moved = func._schema.name == "aten::_to_copy" and (kwargs or {}).get("device") is not None
        self.count += moved or any(str(func).startswith(name) for name in WAITING)
        return func(*args, **(kwargs or {}))


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Waits]:
    """Count the operators, and the methods that hand values to Python."""
    waits = Waits()
    with monkeypatch.context() as patch:
        for name in READING:
            original = getattr(Tensor, name)

            def reading(tensor: Tensor, *args: Any, original: Any = original, **kwargs: Any) -> Any:
                waits.count += 1
                return original(tensor, *args, **kwargs)

            patch.setattr(Tensor, name, reading)
        with waits:
            yield waits


class Module(pl.LightningModule):
    """Three losses on a line; counts what each training step and all that callbacks do around it wait for."""

    def __init__(self, record: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 3)
        self.mse = MSELoss(record=record, **SHOWN)
        self.cross_entropy = CrossEntropyLoss(record=record, **SHOWN)
        self.triplet = BatchAllTripletLoss(record=record, **SHOWN)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        out = self.layer(batch["inputs"])
        terms = [self.mse(out, batch["target"]), self.cross_entropy(out, batch["labels"])]
        return sum(terms, self.triplet(out, batch["labels"]))

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.training_step(batch, batch_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def batches(number: int) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    made = [
        {
            "inputs": torch.randn(6, 4, generator=generator),
            "target": torch.randn(6, 3, generator=generator),
            "labels": torch.arange(6) % 3,
            "index": torch.arange(6) + 6 * k,
        }
        for k in range(number)
    ]
    return DataLoader(made, batch_size=None)  # type: ignore[arg-type]


def waits_of(folder: Path, monkeypatch: pytest.MonkeyPatch, record: bool, callbacks: list[pl.Callback]) -> list[int]:
    """Return what was waited for from the start of each batch to the start of the next."""
    seen: list[int] = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            seen.append(waits.count)

    with counted(monkeypatch) as waits:
        trainer = tiny_trainer(
            folder, [Watch(), *callbacks], log_every_n_steps=5, enable_checkpointing=False, limit_val_batches=0
        )
        trainer.fit(Module(record), batches(20), batches(1))
    return [after - before for before, after in pairwise(seen)]


def test_no_step_between_drains_waits_for_logged_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = waits_of(tmp_path / "bare", monkeypatch, False, [])
    logged = waits_of(tmp_path / "logged", monkeypatch, True, [LossMonitor(log_every=10), HardSamples(k=3)])
    extra = [more - less for more, less in zip(logged, bare, strict=True)]
    assert extra[:9] + extra[10:] == [0] * 18
    assert extra[9] > 0  # the drain: the count can count


def test_drain_makes_one_transfer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    original = HostCopy.__init__

    def counting(transfer: HostCopy, records: Any) -> None:
        made.append(len(records))
        original(transfer, records)

    monkeypatch.setattr(HostCopy, "__init__", counting)
    trainer = tiny_trainer(tmp_path, [LossMonitor(log_every=10)], enable_checkpointing=False, limit_val_batches=0)
    trainer.fit(Module(True), batches(20), batches(1))
    assert made == [5, 5, 5]  # at 10, 20 and the end of the epoch: three losses, active_triplets and the gradient


class Late:
    """An event of a device that is not done yet."""

    def synchronize(self) -> None:
        """Wait."""


def late(transfer: HostCopy, records: Any, original: Any = HostCopy.__init__) -> None:
    original(transfer, records)
    transfer.arrived = Late()  # type: ignore[assignment]


def test_transfer_that_arrives_late_gives_the_same_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(folder: Path) -> None:
        checkpoint = pl.callbacks.ModelCheckpoint(folder / "checkpoints", every_n_train_steps=5)  # drains in between
        trainer = tiny_trainer(folder, [LossMonitor(log_every=4), checkpoint], max_epochs=2)
        trainer.fit(Module(True), batches(11), batches(3))

    fit(tmp_path / "at once")
    monkeypatch.setattr(HostCopy, "__init__", late)
    fit(tmp_path / "late")
    for stage in ("train", "val"):
        expected, found = read(tmp_path / "at once" / stage), read(tmp_path / "late" / stage)
        assert expected.keys() == found.keys()
        assert len(expected["loss/mse"]) == (7 if stage == "train" else 2)
        for tag in expected.keys() - {"samples_per_second"}:
            assert found[tag] == expected[tag]
