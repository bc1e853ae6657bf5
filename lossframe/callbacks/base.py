"""Base class of callbacks that write into the TensorBoard runs of the LossMonitor."""

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl

from lossframe.callbacks.monitor.loss_monitor import LossMonitor
from lossframe.errors import InputError
from lossframe.loggers.position import Position
from lossframe.loggers.tensorboard import StageFile


class MonitorCallback(pl.Callback):
    """Abstract base: gives a callback the event files and the x axis of the trainer's LossMonitor."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Raise an `InputError` before training if the trainer has no LossMonitor."""
        self.monitor(trainer)

    def monitor(self, trainer: pl.Trainer) -> LossMonitor:
        """Return the LossMonitor among the trainer's callbacks, or raise an `InputError`."""
        return monitor_of(trainer, self)

    def writers(self, trainer: pl.Trainer, stage: str) -> Iterator[tuple[StageFile, int]]:
        """Yield each event file of a stage with the place on its x axis, and flush it; yield none on ranks above 0."""
        if not trainer.is_global_zero:
            return
        monitor = self.monitor(trainer)
        step = Position.of(trainer, monitor.samples_seen).on(monitor.stage_writer.x)
        for writer in monitor.stage_writer.writers(trainer.loggers, stage):
            yield writer, step
            writer.flush()


def monitor_of(trainer: pl.Trainer, reader: object) -> LossMonitor:
    """Return the LossMonitor among the trainer's callbacks; an `InputError` names the reader that needs one."""
    callbacks: list[Any] = getattr(trainer, "callbacks")  # noqa: B009 - Lightning's stubs do not know it
    for callback in callbacks:
        if isinstance(callback, LossMonitor):
            return callback
    name = type(reader).__name__
    raise InputError(f"{name} needs a LossMonitor, but there is none: add LossMonitor(), or leave {name} out")
