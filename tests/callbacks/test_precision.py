"""Statistics stay exact in trainings of any precision."""

from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from curves import read
from trainers import tiny_trainer

from lossframe import LossMonitor
from lossframe.losses import MSELoss

STEPS = 2_000


class Regression(pl.LightningModule):
    """Remembers what its loss returns, in numpy."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        self.criterion = MSELoss(log_std=True, log_min=True, log_max=True)
        self.seen: list[np.ndarray] = []
        original = self.criterion.loss

        def recorded(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            values = original(prediction, target)
            self.seen.append(values.detach().double().numpy().reshape(-1).copy())
            return values

        self.criterion.loss = recorded  # type: ignore[method-assign]

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        value: torch.Tensor = self.criterion(self.layer(batch[0]), batch[1])
        return value

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed", "64-true"])
def test_counts_and_moments_of_thousands_of_steps_equal_numpy(tmp_path: Path, precision: str) -> None:
    inputs = torch.randn(3 * STEPS, 4, generator=torch.Generator().manual_seed(0))
    data = torch.utils.data.TensorDataset(inputs, 100 + inputs[:, :1])
    module = Regression()
    monitor = LossMonitor(log_every=STEPS)
    trainer = tiny_trainer(tmp_path, [monitor], precision=precision, enable_checkpointing=False)
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=3))
    values = np.concatenate(module.seen)
    assert len(values) == 3 * STEPS
    curves = read(tmp_path / "train")
    for suffix, statistic in (("", np.mean), ("_std", np.std), ("_min", np.min), ("_max", np.max)):
        ((step, value),) = curves[f"loss/mse{suffix}"]
        assert step == 3 * STEPS
        assert value == pytest.approx(statistic(values), rel=1e-6)
