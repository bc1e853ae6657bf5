"""Saves a checkpoint on Ctrl-C and SIGTERM before the training stops."""

import signal
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl


class GracefulStop(pl.Callback):
    """Finishes the step, saves `checkpoint` and stops on the first Ctrl-C or SIGTERM; stops at once on the second.

    A running validation is finished too; if it is the last one, no test follows. The exit status after SIGTERM is 143.
    Several ranks may be at different steps, and stop at once. A test stops at once too.
    """

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = Path(checkpoint)
        self._requested: int | None = None
        self._previous: dict[int, Any] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Save the current signal handlers, before Lightning replaces them."""
        self._previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Install the handler of Ctrl-C, on a single rank."""
        if trainer.world_size == 1:
            signal.signal(signal.SIGINT, self._request)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace Lightning's handler of SIGTERM, which exits with status 0 or makes ranks wait for one another."""
        signal.signal(signal.SIGTERM, self._request if trainer.world_size == 1 else signal.SIG_DFL)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the default of SIGTERM, because Lightning's handler ignores the signal during a test."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop between two steps, where a checkpoint is consistent."""
        self._stop(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop after the last validation, which no step follows."""
        self._stop(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Restore the signal handlers from before the training."""
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._previous = {}

    def _stop(self, trainer: pl.Trainer) -> None:
        """Save the checkpoint and stop, if a signal has requested it."""
        if self._requested is None:
            return
        trainer.save_checkpoint(self.checkpoint)
        print(f"\nStopped. To resume: lossframe train ckpt={self.checkpoint}", flush=True)
        raise KeyboardInterrupt if self._requested == signal.SIGINT else SystemExit(128 + self._requested)

    def _request(self, number: int, frame: FrameType | None) -> None:
        """Handle the first signal: request a stop, and let the next signal stop at once."""
        self._requested = number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        print("\nStopping after this step or validation; a second time stops at once.", flush=True)
