"""LossMonitor in somebody else's LightningModule, under either name of the package."""

import importlib
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from curves import read

from lossframe import LossMonitor, NonFiniteError
from lossframe.losses import CrossEntropyLoss, MSELoss


def classifier(pl: ModuleType, **losses: torch.nn.Module) -> Any:
    class Classifier(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 3)
            for name, loss in losses.items():
                setattr(self, name, loss)

        def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
            logits = self.layer(batch[0])
            return sum(getattr(self, name)(logits, batch[1]) for name in losses)

        def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
            self.training_step(batch, batch_idx)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Classifier()


def fit(pl: ModuleType, module: Any, folder: Path, monitor: LossMonitor, target: torch.Tensor, **options: Any) -> Any:
    inputs = torch.randn(len(target), 4, generator=torch.Generator().manual_seed(0))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, target), batch_size=8)
    logger = pl.loggers.TensorBoardLogger(str(folder), name="", version="")
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, logger=logger, callbacks=[monitor], enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=str(folder), log_every_n_steps=1, **options,
    )  # fmt: skip
    trainer.fit(module, loader, loader)
    return trainer


@pytest.mark.parametrize("package", ["pytorch_lightning", "lightning.pytorch"])
def test_logs_the_losses_of_a_foreign_module(package: str, tmp_path: Path) -> None:
    pl = importlib.import_module(package)
    module = classifier(pl, criterion=CrossEntropyLoss(log_std=True, log_min=True, log_max=True))
    monitor = LossMonitor(log_every=2)
    trainer = fit(pl, module, tmp_path, monitor, torch.arange(20) % 3)
    for stage, steps in (("train", [16, 20, 28, 40]), ("val", [20, 40])):
        curves = read(tmp_path / stage)
        for suffix in ("", "_std", "_min", "_max"):
            assert [step for step, _ in curves[f"loss/cross_entropy{suffix}"]] == steps
    assert trainer.callback_metrics["val/loss/cross_entropy"] == pytest.approx(curves["loss/cross_entropy"][-1][1])
    assert monitor.samples_seen == 40


def test_losses_of_one_class_are_named_by_their_attributes(tmp_path: Path) -> None:
    pl = importlib.import_module("pytorch_lightning")
    module = classifier(pl, shape=MSELoss(), colour=MSELoss())
    fit(pl, module, tmp_path, LossMonitor(), torch.zeros(20, 3))
    assert {tag for tag in read(tmp_path / "val") if tag.startswith("loss/")} == {"loss/shape", "loss/colour"}


def test_a_nan_names_the_term(tmp_path: Path) -> None:
    pl = importlib.import_module("pytorch_lightning")
    module = classifier(pl, criterion=MSELoss())
    torch.nn.init.constant_(module.layer.weight, math.nan)
    with pytest.raises(NonFiniteError, match=r"mse \(MSELoss\): 24 of 24 values were not finite"):
        fit(pl, module, tmp_path, LossMonitor(log_every=1), torch.zeros(20, 3), num_sanity_val_steps=0)
