"""Stops a training whose monitored value no longer improves, and logs why."""

import logging
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from torch import Tensor

from lossframe import saved

_MONITORED = "lossframe.monitored"
"""Entry of a checkpoint: the value that early stopping has seen last."""
_log = logging.getLogger(__name__)


class LoggedEarlyStopping(EarlyStopping):
    """Extends Lightning's `EarlyStopping` to log why the training has stopped, at its end.

    A resumed training counts on from its checkpoint, with the `patience` that is configured now. One that had stopped
    trains no further unless `patience` or the threshold was raised.
    """

    _reason: str | None = None
    _monitored: float | None = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the value of the last validation, which is looked at once more if a limit cuts the next epoch."""
        found = trainer.callback_metrics.get(self.monitor)
        checkpoint[_MONITORED] = None if found is None else float(found)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore the value of the last validation."""
        saved.check(
            checkpoint, {_MONITORED: saved.Maybe(float)} if _MONITORED in checkpoint else {}, type(self).__name__
        )
        self._monitored = checkpoint.get(_MONITORED)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts of a checkpoint, but not its patience."""
        form = saved.form_of({**self.state_dict(), "stopping_reason_message": None})  # no text before the stop
        saved.check(state_dict, form, type(self).__name__)
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop a resumed training that had stopped."""
        if self._monitored is not None:
            trainer.callback_metrics.setdefault(self.monitor, torch.tensor(self._monitored))
            self._monitored = None
        if 0 < self.wait_count >= self.patience:
            trainer.should_stop = True
            self._reason = f"{self.monitor} had not improved in {self.wait_count} validations before this resume"
        if self.stopping_threshold is not None and self.monitor_op(self.best_score, self.stopping_threshold):
            trainer.should_stop = True
            self._reason = f"{self.monitor} had reached {self.best_score:.4g} before this resume"

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the reason on rank 0, if this callback has stopped the training."""
        if self._reason is not None and trainer.is_global_zero:
            _log.info("Stopped early in epoch %d: %s", self.stopped_epoch, self._reason)
        self._reason = None

    def _evaluate_stopping_criteria(self, current: Tensor) -> tuple[bool, str | None]:
        stops, reason = super()._evaluate_stopping_criteria(current)
        if stops:
            self._reason = (reason or self.monitor).removesuffix(" Signaling Trainer to stop.")
        return stops, reason
