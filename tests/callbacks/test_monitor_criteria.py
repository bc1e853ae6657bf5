"""Criteria that are made late or replaced, and modules without a monitor."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from curves import read
from modules import Numbers, numbers
from test_monitor_lifecycle import VALUES, points, trainer_of
from trainers import tiny_trainer

from lossframe import Learner, LossMonitor, Objective
from lossframe.callbacks.hparams import HParams
from lossframe.errors import InputError
from lossframe.losses import HuberLoss, L1Loss


class Changes(Numbers):
    """Changes its criterion in the middle of training."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def on_train_epoch_start(self) -> None:
        if self.how == "replaced" and self.current_epoch == 1:
            self.number = L1Loss(log_max=True)

    def on_fit_start(self) -> None:
        if self.how == "made in on_fit_start":
            self.number = L1Loss()


@pytest.mark.parametrize("how", ["replaced", "made in on_fit_start"])
def test_criterion_that_changes_keeps_its_curve(how: str, tmp_path: Path) -> None:
    trainer_of(tmp_path, LossMonitor(), max_epochs=2).fit(Changes(how), numbers(VALUES, 2))
    assert points(tmp_path) == [(6, 12.5), (12, 12.5)]
    assert ("loss/l1_max" in read(tmp_path / "train")) == (how == "replaced")


def test_module_without_a_monitor_is_told_once(tmp_path: Path) -> None:
    class Unmonitored(Numbers):
        """A class of its own, because each is told once."""

    def fit() -> None:
        trainer = tiny_trainer(tmp_path, logger=False, enable_checkpointing=False)
        trainer.fit(Unmonitored(), numbers(VALUES, 2))

    with pytest.warns(UserWarning, match="L1Loss records values .*Unmonitored has no LossMonitor"):
        fit()
    fit()  # warnings are errors here


def test_module_that_configures_its_monitor_is_monitored_without_callbacks(tmp_path: Path) -> None:
    class Configured(Numbers):
        def configure_callbacks(self) -> Any:
            return [LossMonitor()]

    trainer = tiny_trainer(tmp_path, enable_checkpointing=False)
    trainer.fit(Configured(), numbers(VALUES, 2))
    assert points(tmp_path) == [(6, 12.5)]


def test_criterion_made_in_the_middle_of_an_epoch_has_a_curve(tmp_path: Path) -> None:
    class Lazy(Numbers):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 1:
                self.late = {"huber": HuberLoss(delta=1000.0)}
            result = super().training_step(batch, batch_idx)
            return result + self.late["huber"](batch[0], torch.zeros(len(batch[0]))) if batch_idx else result

    trainer_of(tmp_path, LossMonitor(log_every=2)).fit(Lazy(), numbers(VALUES, 2))
    assert points(tmp_path) == [(4, 2.5), (6, 32.5)]
    assert points(tmp_path, tag="loss/huber") == [(4, (3**2 + 4**2) / 4), (6, (5**2 + 60**2) / 4)]


def test_values_of_a_replaced_criterion_are_in_the_curve_of_the_new_one(tmp_path: Path) -> None:
    class Replaces(Numbers):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            if batch_idx == 1:
                self.number = L1Loss()

    trainer_of(tmp_path, LossMonitor()).fit(Replaces(), numbers(VALUES, 2))
    assert points(tmp_path) == [(6, 12.5)]


def test_callback_that_needs_a_monitor_asks_for_it(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, [HParams({"lr": 0.1})], enable_checkpointing=False)
    with pytest.raises(InputError, match=r"HParams .* there is none: add LossMonitor\(\)"):
        trainer.fit(Numbers(), numbers(VALUES, 2))


def test_learner_without_callbacks_still_publishes_what_schedulers_watch(tmp_path: Path) -> None:
    objective = Objective({"l1": L1Loss()}, inputs={"l1": {"prediction": "y", "target": "x"}})
    learner = Learner(Doubles(), objective, partial(torch.optim.SGD, lr=0.1))
    loader = torch.utils.data.DataLoader([{"x": torch.ones(2)}], batch_size=None)  # type: ignore[arg-type]
    trainer = tiny_trainer(tmp_path, logger=False, enable_checkpointing=False)
    trainer.fit(learner, loader, loader)
    assert "val/loss/total" in trainer.callback_metrics


class Doubles(torch.nn.Module):
    """Multiplies numbers by a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, batch: Any) -> Any:
        return {"y": batch["x"] * self.weight}
