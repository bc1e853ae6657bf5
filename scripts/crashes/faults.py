"""A model that draws random numbers, and a callback that interrupts its own process where `CRASH` says."""

import io
import os
import signal
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from lossframe.callbacks.saving import files
from lossframe.models import ConvEmbedder

CRASH = "LOSSFRAME_CRASH"
"""Environment variable `SIGNAL:PLACE:COUNT:RANK`: what to raise when a rank is at a place for the COUNT-th time."""

PLACES = ("train", "step", "val", "save", "rotate", "test")


class NoisyEmbedder(ConvEmbedder):
    """Embeds images after dropout, so that a training depends on the global random numbers of each rank."""

    def forward(self, frame: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the entries of the embedder."""
        return super().forward({**frame, "image": F.dropout(frame["image"], 0.2, self.training)})


class Crash(pl.Callback):
    """Raises a signal in its own process, such as SIGKILL, in a training, a save, a validation or a test."""

    def __init__(self) -> None:
        kind, self.place, count, rank = os.environ.get(CRASH, ":::").split(":")
        self.signal = getattr(signal, kind, None)
        self.left, self.rank = int(count or 0), int(rank or 0)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let the writing of checkpoints come by the places `save` and `rotate`."""
        if self.place in ("save", "rotate"):
            files.torch.save = self._save  # type: ignore[attr-defined]

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Come by before a micro-batch."""
        self._at("train", trainer.global_rank)

    def on_before_optimizer_step(self, trainer: pl.Trainer, *_: Any) -> None:
        """Come by before a step."""
        self._at("step", trainer.global_rank)

    def on_validation_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Come by before a validation batch."""
        self._at("val", trainer.global_rank)

    def on_test_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Come by before a test batch."""
        self._at("test", trainer.global_rank)

    def _at(self, place: str, rank: int) -> None:
        if place == self.place and rank == self.rank and self.signal is not None:
            self.left -= 1
            if self.left == 0:
                print(f"crash: {self.signal.name} at {place}", flush=True)
                os.kill(os.getpid(), self.signal)

    def _save(self, checkpoint: Any, file: Any, **options: Any) -> None:
        """Write a checkpoint in two halves, with the place `save` between them, and `rotate` behind."""
        if not str(getattr(file, "name", "")).endswith(files.SUFFIX):  # a message between ranks
            _TORCH_SAVE(checkpoint, file, **options)
            return
        buffer = io.BytesIO()
        _TORCH_SAVE(checkpoint, buffer)
        content = buffer.getvalue()
        file.write(content[: len(content) // 2])
        file.flush()
        self._at("save", 0)
        file.write(content[len(content) // 2 :])
        file.flush()
        self._at("rotate", 0)


_TORCH_SAVE = torch.save
