"""What other callbacks and the user read of the monitor: metrics of epochs, results of evaluations, learning rates."""

from pathlib import Path
from typing import Any

import pytest
import torch
from modules import Evaluated, Numbers, numbers
from pytorch_lightning.callbacks import EarlyStopping
from test_monitor_lifecycle import VALUES, Saves, points, trainer_of

from lossframe import LossMonitor
from lossframe.losses import L1Loss


def test_callbacks_see_the_whole_epoch_of_training(tmp_path: Path) -> None:
    seen: list[float] = []

    class Watches(EarlyStopping):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            seen.append(trainer.callback_metrics["train/loss/l1"].item())
            super().on_train_epoch_end(trainer, pl_module)

    watches = Watches("train/loss/l1", check_on_train_epoch_end=True)
    trainer_of(tmp_path, LossMonitor(log_every=2), watches, max_epochs=2).fit(Numbers(), numbers(VALUES, 2))
    assert seen == [12.5, 12.5]
    assert points(tmp_path) == [(4, 2.5), (6, 32.5), (8, 1.5), (12, 18.0)]


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")
def test_epoch_is_whole_after_a_resume_in_its_middle(tmp_path: Path) -> None:
    saves = Saves(tmp_path / "two.ckpt", 2)
    trainer_of(tmp_path / "first", LossMonitor(log_every=1), saves).fit(Numbers(), numbers(VALUES, 2))
    trainer = trainer_of(tmp_path, LossMonitor(log_every=1))
    trainer.fit(Numbers(), numbers(VALUES, 2), ckpt_path=saves.path)
    last = 1 + 2  # Lightning gives the first batch again
    assert trainer.callback_metrics["train/loss/l1"].item() == pytest.approx((1 + 2 + 3 + 4 + last) / 6)


def test_validate_and_test_return_means_and_total(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, LossMonitor())
    module = Evaluated(number=L1Loss(log_max=True))
    assert trainer.validate(module, numbers(VALUES, 4), verbose=False) == [{"val/loss/l1": pytest.approx(12.5)}]
    assert trainer.test(module, numbers(VALUES[:3], 2), verbose=False) == [{"test/loss/l1": pytest.approx(2.0)}]
    assert trainer.callback_metrics["test/loss/l1_max"].item() == 3.0


def test_each_of_several_dataloaders_returns_its_own_mean(tmp_path: Path) -> None:
    class Several(Evaluated):
        def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.training_step(batch, batch_idx)

    results = trainer_of(tmp_path, LossMonitor()).test(Several(), [numbers([1, 3], 1), numbers([5], 1)], verbose=False)
    assert results == [{"test/loss/l1/dataloader_idx_0": 2.0}, {"test/loss/l1/dataloader_idx_1": 5.0}]


@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_learning_rate_of_a_point_is_that_of_its_last_step(interval: str, tmp_path: Path) -> None:
    used: list[float] = []

    class Scheduled(Numbers):
        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": interval}}

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            used.append(optimizer.param_groups[0]["lr"])

    trainer_of(tmp_path, LossMonitor(log_every=1), max_epochs=2).fit(Scheduled(), numbers(VALUES, 2))
    assert points(tmp_path, tag="lr") == [(2 * k + 2, rate) for k, rate in enumerate(used)]
