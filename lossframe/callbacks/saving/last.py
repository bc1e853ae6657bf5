"""Saves the checkpoint from which a training goes on, also in the middle of an epoch, and stops where it is whole."""

import contextlib
import signal
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from lossframe.callbacks.base import monitor_of
from lossframe.callbacks.saving import progress
from lossframe.callbacks.saving.files import rotate
from lossframe.callbacks.saving.signals import StopRequest
from lossframe.counts import check_counts
from lossframe.errors import InputError


class LastCheckpoint(Checkpoint):
    """Saves `path` at each epoch's end, and in between every `every_minutes` or `every_steps`; null for neither.

    A checkpoint is saved only where it is whole: after a step of the optimiser, so that no gradient is being
    accumulated, and not where a validation or the epoch's end follows, but after that. On the first Ctrl-C or SIGTERM
    the next such place is saved, and the training stops on all ranks, with status 143 after SIGTERM; the second signal
    stops at once. On several ranks, the signal and rank 0's clock travel in the monitor's next drain, so that a
    checkpoint comes up to `log_every` batches later. The `keep - 1` checkpoints before stay, as `last-1.ckpt`.
    """

    def __init__(
        self, path: str | Path, every_minutes: float | None = 10.0, every_steps: int | None = None, keep: int = 2
    ) -> None:
        check_counts("LastCheckpoint", keep=keep, **({} if every_steps is None else {"every_steps": every_steps}))
        if every_minutes is not None and not every_minutes > 0:
            raise InputError(f"LastCheckpoint: wanted every_minutes > 0, or null for never, found {every_minutes}")
        self.path = Path(path)
        self.every_minutes = every_minutes
        self.every_steps = every_steps
        self.keep = keep
        self._stop = StopRequest()
        self._agreed: list[tuple[int | None, bool]] = []
        self._saved_at = 0.0
        self._saved_step = 0
        self._step = 0
        self._stepped = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Keep the signal handlers of before, which Lightning replaces later."""
        self._stop.remember()
        self._stop.announces = trainer.is_global_zero

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on behind the end of an epoch, or in an epoch that was cut."""
        progress.correct(trainer, checkpoint)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to count steps and minutes, and to listen for signals."""
        progress.begin(trainer)
        self._stop.listen()
        self._saved_at, self._saved_step, self._step = time.monotonic(), trainer.global_step, trainer.global_step
        monitor_of(trainer, self).share("last checkpoint", self._wish, self._agree)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save after a step, unless a validation or the epoch's end follows."""
        self._stepped, self._step = trainer.global_step != self._step, trainer.global_step
        if trainer.world_size == 1:
            self._agree([self._wish()])
        if self._stepped and self._is_due() and not _is_followed(trainer, batch_idx):
            self._save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save after a validation in the middle of an epoch."""
        if trainer.state.fn != "fit" or trainer.sanity_checking or trainer.is_last_batch:
            return
        if self._stepped and self._is_due():
            self._save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the end of the epoch, after the checkpoints that watch a metric."""
        if trainer.world_size == 1:
            self._agree([self._wish()])
        self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let a signal end the process at once: a test that follows can be repeated."""
        progress.end(trainer)
        self._stop.ignore()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let a signal end the test at once; Lightning's handler ignores SIGTERM."""
        self._stop.ignore()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Restore the signal handlers from before."""
        self._stop.restore()

    def _wish(self) -> tuple[int | None, bool]:
        """Return the signal that this rank has got, and whether its clock says that a checkpoint is due."""
        minutes = (time.monotonic() - self._saved_at) / 60
        return self._stop.number, self.every_minutes is not None and minutes >= self.every_minutes

    def _agree(self, wishes: list[tuple[int | None, bool]]) -> None:
        """Take what all ranks want, the same on every rank."""
        self._agreed = wishes

    def _is_due(self) -> bool:
        """Return whether to save at the next whole place: the same on every rank."""
        every = self.every_steps
        passed = every is not None and self._step // every > self._saved_step // every
        return passed or self._signal() is not None or any(due for _, due in self._agreed[:1])

    def _signal(self) -> int | None:
        return next((number for number, _ in self._agreed if number is not None), None)

    def _save(self, trainer: pl.Trainer) -> None:
        """Save the checkpoint, and stop if a rank has got a signal."""
        stop, self._agreed = self._signal(), []
        if trainer.is_global_zero:
            with contextlib.suppress(OSError):  # the save that follows says what is wrong
                rotate(self.path, self.keep)
        trainer.save_checkpoint(self.path)
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step
        if stop is None:
            return
        if trainer.is_global_zero:
            print(f"\nStopped. To resume: lossframe train ckpt={self.path}", flush=True)
        raise KeyboardInterrupt if stop == signal.SIGINT else SystemExit(128 + stop)


def _is_followed(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Return whether a validation, or the end of the epoch or of training, follows a batch before the next batch."""
    if trainer.is_last_batch or trainer.should_stop or trainer.global_step == trainer.max_steps:
        return True
    if batch_idx + 1 >= trainer.num_training_batches:
        return True
    between, epochs = trainer.val_check_batch, trainer.check_val_every_n_epoch
    if not trainer.enable_validation or between is None:
        return False
    if epochs is None:
        return (trainer.fit_loop.total_batch_idx + 1) % between == 0
    return (trainer.current_epoch + 1) % epochs == 0 and (batch_idx + 1) % between == 0
