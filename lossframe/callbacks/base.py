"""Base class of callbacks that write into the TensorBoard runs of the LossMonitor."""

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
from torch.utils.tensorboard import SummaryWriter

from lossframe.callbacks.monitor.loss_monitor import LossMonitor
from lossframe.errors import InputError


class MonitorCallback(pl.Callback):
    """Abstract base: gives a callback the writers and the number of samples seen of the trainer's LossMonitor."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Raise an `InputError` before training if the trainer has no LossMonitor."""
        self.monitor(trainer)

    def monitor(self, trainer: pl.Trainer) -> LossMonitor:
        """Return the LossMonitor among the trainer's callbacks, or raise an `InputError`."""
        callbacks: list[Any] = getattr(trainer, "callbacks")  # noqa: B009 - Lightning's stubs do not know it
        for callback in callbacks:
            if isinstance(callback, LossMonitor):
                return callback
        name = type(self).__name__
        raise InputError(f"{name} writes into the runs of a LossMonitor, but there is none: add LossMonitor()")

    def writers(self, trainer: pl.Trainer, stage: str) -> Iterator[tuple[SummaryWriter, int]]:
        """Yield each writer of a stage with the samples seen, and flush it afterwards; yield none on ranks above 0."""
        if not trainer.is_global_zero:
            return
        monitor = self.monitor(trainer)
        for writer in monitor.stage_writer.writers(trainer.loggers, stage):
            yield writer, monitor.samples_seen
            writer.flush()
