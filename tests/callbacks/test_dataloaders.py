"""Validation and test of several dataloaders: `LossMonitor` logs one curve per dataloader, on any number of ranks."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from curves import read
from pool import Pool
from torch.utils.data import DataLoader
from trainers import tiny_trainer

from lossframe import LossMonitor, NonFiniteError
from lossframe.callbacks.monitor.collector import Collector
from lossframe.callbacks.monitor.nonfinite import Guard
from lossframe.losses import MSELoss

BATCHES = [[torch.tensor([1.0, 3.0]), torch.tensor([2.0])], [torch.tensor([10.0])], [torch.tensor([4.0])]]
MEANS = [(1 + 9 + 4) / 3, 100, 16]


def fitted(
    package: str, folder: Path, batches: list[Any], watched: str = "val/loss/mse/dataloader_idx_1", **options: Any
) -> tuple[Any, Any]:
    """Return a trainer and a module whose loss is the mean square of what it is given, after a training."""
    pl = importlib.import_module(package)

    class Squares(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.gain = torch.nn.Parameter(torch.ones(()))
            self.loss = MSELoss(log_max=True, log_quantiles=True)

        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            return self.loss(self.gain * batch, torch.zeros_like(batch))

        def validation_step(self, batch: torch.Tensor, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.training_step(batch, batch_idx)

        def test_step(self, batch: torch.Tensor, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.training_step(batch, batch_idx)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.0)

    best = pl.callbacks.ModelCheckpoint(monitor=watched) if len(batches) > 1 else None
    trainer = tiny_trainer(folder, [LossMonitor(), *filter(None, [best])], pl, max_epochs=2, **options)
    module = Squares()
    trainer.fit(module, loaders(BATCHES)[0], loaders(batches))
    return trainer, module


def loaders(batches: list[Any]) -> list[Any]:
    return [DataLoader(each, batch_size=None) if isinstance(each, list) else each for each in batches]


@pytest.mark.parametrize("package", ["pytorch_lightning", "lightning.pytorch"])
def test_each_of_several_dataloaders_has_its_own_curves(package: str, tmp_path: Path) -> None:
    trainer, module = fitted(package, tmp_path, BATCHES)
    published = dict(trainer.callback_metrics)
    trainer.test(module, loaders(BATCHES), verbose=False)
    published |= trainer.callback_metrics
    for stage, points in (("val", 2), ("test", 1)):
        curves = read(tmp_path / stage)
        for k, mean in enumerate(MEANS):
            wanted = [(3, pytest.approx(mean)), (6, pytest.approx(mean))][-points:]
            assert curves[f"loss/mse/dataloader_idx_{k}"] == wanted
            assert published[f"{stage}/loss/mse/dataloader_idx_{k}"].item() == pytest.approx(mean)
        assert [value for _, value in curves["loss/mse_max/dataloader_idx_0"]] == [9.0] * points
        suffixes = ("", "_max", "_p5", "_p50", "_p95", "_p99")
        numbered = {f"loss/mse{suffix}/dataloader_idx_{k}" for suffix in suffixes for k in range(3)}
        assert {tag for tag in curves if tag.startswith("loss/mse")} == numbered
    assert trainer.checkpoint_callback.best_model_score == 100


class Once:
    """A dataloader that has nothing left after its first epoch."""

    def __init__(self, batches: list[torch.Tensor]) -> None:
        self.batches = list(batches)

    def __iter__(self) -> Iterator[torch.Tensor]:
        while self.batches:
            yield self.batches.pop(0)


def test_dataloader_without_batches_adds_no_point(tmp_path: Path) -> None:
    watched = "val/loss/mse/dataloader_idx_0"
    trainer, _ = fitted("pytorch_lightning", tmp_path, [BATCHES[0], Once(BATCHES[1])], watched, num_sanity_val_steps=0)
    curves = read(tmp_path / "val")
    assert [step for step, _ in curves["loss/mse/dataloader_idx_0"]] == [3, 6]
    assert [step for step, _ in curves["loss/mse/dataloader_idx_1"]] == [3]
    assert {name for name in trainer.callback_metrics if name.startswith("val/loss/mse/")} == {watched}


def test_single_dataloader_adds_no_number_to_tags(tmp_path: Path) -> None:
    trainer, _ = fitted("pytorch_lightning", tmp_path, BATCHES[:1])
    assert trainer.callback_metrics["val/loss/mse"].item() == pytest.approx(MEANS[0])
    assert not any("dataloader" in tag for tag in read(tmp_path / "val"))


def test_nan_raises_an_error_that_names_the_dataloader(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match=r"val/dataloader_idx_1: mse .*1 of 2 values.*rows 1 of the batch"):
        fitted("pytorch_lightning", tmp_path, [*BATCHES[:1], [torch.tensor([1.0, torch.nan])]], num_sanity_val_steps=0)


def drained(rank: int) -> dict[str, dict[str, float]]:
    loss, collector = MSELoss(), Collector(Guard("off"))
    collector.recorders = {"mse": loss}
    for loader, rows in enumerate([[1.0, 2.0], [3.0], [4.0]]):
        if rank == 0 or loader == 0:  # the other rank has no batch of the later ones
            collector.enter(f"/dataloader_idx_{loader}")
            loss.accumulate("loss", torch.tensor(rows) * (1 + rank))
    return {
        suffix: {name: m.mean for name, m in seen["mse"].items()}
        for suffix, seen in collector.evaluation("val").items()
    }


def test_rank_without_batches_of_a_dataloader_still_gets_its_means(pool: Pool) -> None:
    for seen in pool.run(2, drained):
        assert [means["loss"] for means in seen.values()] == [2.25, 3.0, 4.0]
