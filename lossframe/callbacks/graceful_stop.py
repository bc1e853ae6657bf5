"""Ctrl-C and SIGTERM that lose nothing."""

import signal
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl


class GracefulStop(pl.Callback):
    """On the first Ctrl-C or SIGTERM, finishes the step, saves `checkpoint` and stops; on the second, stops at once.

    A validation is finished too; after the one that ends the training, nothing is tested. After a SIGTERM the status is
    143. Several ranks, each at a step of its own, stop at once, as does a test.
    """

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = Path(checkpoint)
        self._requested: int | None = None
        self._previous: dict[int, Any] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Remember who listens now, before Lightning does."""
        self._previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen for Ctrl-C."""
        if trainer.world_size == 1:
            signal.signal(signal.SIGINT, self._request)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen for SIGTERM as Lightning does by now: it would end with status 0, or have ranks wait for others."""
        signal.signal(signal.SIGTERM, self._request if trainer.world_size == 1 else signal.SIG_DFL)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let a SIGTERM end a test, of which Lightning takes no notice."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

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
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._previous = {}

    def _stop(self, trainer: pl.Trainer) -> None:
        """Save and stop, if that was asked for."""
        if self._requested is None:
            return
        trainer.save_checkpoint(self.checkpoint)
        print(f"\nStopped. To resume: lossframe train ckpt={self.checkpoint}", flush=True)
        raise KeyboardInterrupt if self._requested == signal.SIGINT else SystemExit(128 + self._requested)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self._requested = number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        print("\nStopping after this step or validation; a second time stops at once.", flush=True)
