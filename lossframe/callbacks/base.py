"""What callbacks share that write into the LossMonitor's TensorBoard runs."""

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
from torch.utils.tensorboard import SummaryWriter

from lossframe.callbacks.monitor.loss_monitor import LossMonitor
from lossframe.errors import InputError


class Companion(pl.Callback):
    """Abstract: writes beside the curves, at the monitor's samples seen; a trainer without one is an `InputError`."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse before anything is trained."""
        self.monitor(trainer)

    def monitor(self, trainer: pl.Trainer) -> LossMonitor:
        """Return the trainer's monitor."""
        callbacks: list[Any] = getattr(trainer, "callbacks")  # noqa: B009 - Lightning's stubs do not know it
        for callback in callbacks:
            if isinstance(callback, LossMonitor):
                return callback
        name = type(self).__name__
        raise InputError(f"{name} writes into the runs of a LossMonitor, but there is none: add LossMonitor()")

    def writers(self, trainer: pl.Trainer, stage: str) -> Iterator[tuple[SummaryWriter, int]]:
        """Yield each writer of a stage's run and the samples seen, on rank 0, and flush it; on other ranks nothing."""
        if not trainer.is_global_zero:
            return
        monitor = self.monitor(trainer)
        for writer in monitor.stage_writer.writers(trainer.loggers, stage):
            yield writer, monitor.samples_seen
            writer.flush()
