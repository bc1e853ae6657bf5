"""The curve of the gradients' norm: under every policy, and under a gradient scaler that overflows on purpose."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from curves import read
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader
from trainers import tiny_trainer

from lossframe import LossMonitor
from lossframe.losses import MSELoss


class Regressor(pl.LightningModule):
    def __init__(self, overflow_at: int = -1) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.loss = MSELoss()
        self.overflow_at = overflow_at
        self.norms: list[float] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        value: Tensor = self.loss(self.layer(batch).float(), 3 * batch)
        return value * (1e38 if batch_idx == self.overflow_at else 1)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        self.norms.append(torch.cat([gradient.flatten() for gradient in gradients]).norm().item())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def trained(folder: Path, module: Regressor, **options: Any) -> dict[str, list[tuple[int, float]]]:
    trainer = tiny_trainer(folder, [LossMonitor(log_every=4, nonfinite="off")], **options)
    trainer.fit(module, DataLoader(torch.randn(16, 1), batch_size=4))
    return read(folder / "train")


def test_gradient_norm_is_a_curve_where_nothing_is_checked(tmp_path: Path) -> None:
    module = Regressor()
    ((_, found),) = trained(tmp_path, module)["gradient_norm"]
    assert found == pytest.approx(sum(module.norms) / 4, rel=1e-5)


def test_gradient_norm_under_a_scaler_leaves_out_the_step_that_overflows(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Regressor(overflow_at=1)
    scaled = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    ((_, found),) = trained(tmp_path, module, plugins=[scaled])["gradient_norm"]
    finite = [norm for norm in module.norms if norm < float("inf")]
    assert 0 < len(finite) < len(module.norms) == 4
    assert found == pytest.approx(sum(finite) / len(finite), rel=1e-3)
