"""Ctrl-C that loses nothing."""

import signal
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl


class GracefulStop(pl.Callback):
    """On the first Ctrl-C, finishes the step, saves `checkpoint` and stops; on the second, stops at once.

    A validation is finished too; after the one that ends the training, nothing is tested. Several ranks, each at a step
    of its own, stop at once.
    """

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = Path(checkpoint)
        self._requested = False
        self._previous: Any = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen for Ctrl-C."""
        if trainer.world_size == 1:
            self._previous = signal.signal(signal.SIGINT, self._request)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop between two steps, where a checkpoint is whole."""
        self._stop(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop after the last validation, which no step follows."""
        self._stop(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Stop listening."""
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def _stop(self, trainer: pl.Trainer) -> None:
        """Save and stop, if that was asked for."""
        if self._requested:
            trainer.save_checkpoint(self.checkpoint)
            print(f"\nStopped. To go on: python train.py ckpt={self.checkpoint}", flush=True)
            raise KeyboardInterrupt

    def _request(self, signum: int, frame: FrameType | None) -> None:
        self._requested = True
        signal.signal(signal.SIGINT, self._previous)
        print("\nStopping after this step or validation; press Ctrl-C again to stop at once.", flush=True)
