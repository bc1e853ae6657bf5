"""The Lightning callback that drains what losses remember into the loggers."""

import re
import time
import warnings
from dataclasses import astuple
from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torch.utils import _pytree as pytree

from lossframe.board import Board
from lossframe.errors import InputError
from lossframe.sources import Source, find_sources, weights
from lossframe.statistics import Moments, drain

Window = dict[str, dict[str, Moments]]

GLOBAL_ALREADY = r"It is recommended to use `self.log\('(train|val|test)/(loss|weighted)/.*sync_dist"
"""Lightning's advice to reduce over ranks what a drain has made global."""


class LossMonitor(pl.Callback):
    """Writes every loss of the module to every logger, over samples seen, for train, val and test.

    Finds each `Loss` and `Objective` anywhere in the LightningModule. Every `log_every` training batches, and at the
    end of each training and validation epoch, it drains their statistics (one collective for all) and writes
    `loss/TERM` and, where the loss asks for them, `loss/TERM_std`, `_min`, `_max`; for an objective also `loss/total`,
    `weighted/TERM` and `weight/TERM`; `lr` and `samples_per_second`. TensorBoard gets one run per stage, so that train
    and val share a chart; other loggers get `train/loss/TERM`. The values are also in `trainer.callback_metrics`, as
    `val/loss/TERM`, for `ModelCheckpoint` and `EarlyStopping`.

    A non-finite value is a `NonFiniteError` that names the term, on all ranks.
    """

    def __init__(self, log_every: int = 50) -> None:
        if log_every < 1:
            raise InputError(f"LossMonitor: wanted log_every >= 1, found {log_every}")
        self.log_every = log_every
        self.samples_seen = 0
        self.batches_seen = 0
        self.board = Board()
        self._sources: dict[str, Source] = {}
        self._training = False
        self._window: Window = {}
        self._window_samples = 0
        self._window_seconds = 0.0
        self._local_samples = 0
        self._clock = 0.0
        self._evaluated: dict[str, float] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find the losses."""
        self._sources = find_sources(pl_module)
        warnings.filterwarnings("ignore", message=GLOBAL_ALREADY)

    def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget what the sanity check showed."""
        self._forget()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start from what the checkpoint's window holds, and from nothing else."""
        self._forget()
        self._resume_clock()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the samples; drain and write every `log_every` batches."""
        self._local_samples += batch_size(batch)
        self.batches_seen += 1
        if self.batches_seen % self.log_every == 0:
            self._write_training(trainer, pl_module, on_step=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the rest of the epoch."""
        self._write_training(trainer, pl_module, on_step=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self._training = False

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the training window aside."""
        self._drain_training()
        self._training = False

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Publish the validation losses, for callbacks that watch them."""
        self._evaluate(trainer, pl_module, "val")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the validation losses, and the metrics that nobody else writes."""
        self._write_evaluation(trainer, "val")
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._resume_clock()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start from nothing."""
        self._forget()

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Publish the test losses."""
        self._evaluate(trainer, pl_module, "test")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the test losses, and the metrics that nobody else writes."""
        self._write_evaluation(trainer, "test")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close the event files."""
        self._training = False
        self.board.close()

    def state_dict(self) -> dict[str, Any]:
        """Return the open window, drained from all ranks, and how far the curves are written."""
        self._drain_training()
        return {
            "samples_seen": self.samples_seen,
            "batches_seen": self.batches_seen,
            "window": {term: {name: astuple(m) for name, m in seen.items()} for term, seen in self._window.items()},
            "window_samples": self._window_samples,
            "window_seconds": self._window_seconds,
            "written": dict(self.board.written),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint was made."""
        self.samples_seen = state_dict["samples_seen"]
        self.batches_seen = state_dict["batches_seen"]
        self._window = {t: {name: Moments(*m) for name, m in seen.items()} for t, seen in state_dict["window"].items()}
        self._window_samples = state_dict["window_samples"]
        self._window_seconds = state_dict["window_seconds"]
        self.board.written = dict(state_dict["written"])
        self.board.resumed = True

    def _forget(self) -> None:
        for source in self._sources.values():
            source.memory.reset()

    def _resume_clock(self) -> None:
        self._training = True
        self._clock = time.monotonic()

    def _drain_training(self) -> None:
        """Merge what all ranks saw since the last drain into the open window."""
        if not self._training:
            return
        drained, samples = drain({name: source.memory for name, source in self._sources.items()}, self._local_samples)
        for term, seen in drained.items():
            window = self._window.setdefault(term, {})
            for name, new in seen.items():
                window[name] = window[name].merge(new) if name in window else new
        now = time.monotonic()
        self._window_seconds += now - self._clock
        self._clock, self._local_samples = now, 0
        self._window_samples += samples
        self.samples_seen += samples

    def _write_training(self, trainer: pl.Trainer, pl_module: pl.LightningModule, on_step: bool) -> None:
        self._drain_training()
        if not self._window_samples:
            return
        curves = self._curves(self._window)
        speed = {"samples_per_second": self._window_samples / max(self._window_seconds, 1e-9)}
        self._window, self._window_samples, self._window_seconds = {}, 0, 0.0
        publish(pl_module, "train", curves, on_step)
        self._write(trainer, "train", curves | weights(pl_module) | learning_rates(trainer) | speed)

    def _evaluate(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if trainer.sanity_checking:
            return
        drained, _ = drain({name: source.memory for name, source in self._sources.items()})
        self._evaluated = self._curves(drained)
        publish(pl_module, stage, self._evaluated, on_step=False)

    def _write_evaluation(self, trainer: pl.Trainer, stage: str) -> None:
        """Write the stage's losses, and what was logged for callbacks only."""
        if trainer.sanity_checking:
            return
        unwritten = {
            name.removeprefix(f"{stage}/"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith(f"{stage}/") and name not in trainer.logged_metrics
        }
        self._write(trainer, stage, unwritten | self._evaluated)

    def _curves(self, window: Window) -> dict[str, float]:
        curves: dict[str, float] = {}
        for term, seen in window.items():
            for name, moments in seen.items():
                curves |= self._sources[term].curves(name, moments)
        return curves

    def _write(self, trainer: pl.Trainer, stage: str, scalars: dict[str, float]) -> None:
        if trainer.is_global_zero:
            self.board.write(trainer.loggers, stage, scalars, self.samples_seen)


def batch_size(batch: Any) -> int:
    """Return the number of samples of a batch: the length of its first tensor."""
    for leaf in pytree.tree_leaves(batch):
        if isinstance(leaf, Tensor) and leaf.ndim:
            return len(leaf)
    raise InputError(f"LossMonitor: wanted a batch with a tensor of samples, found {type(batch).__name__}")


def learning_rates(trainer: pl.Trainer) -> dict[str, float]:
    """Return `lr`, or `lr/K` for the K-th parameter group where there are several."""
    rates = [float(group["lr"]) for optimizer in trainer.optimizers for group in optimizer.param_groups]
    return {"lr": rates[0]} if len(rates) == 1 else {f"lr/{k}": rate for k, rate in enumerate(rates)}


def publish(module: pl.LightningModule, stage: str, curves: dict[str, float], on_step: bool) -> None:
    """Put curves into `trainer.callback_metrics` as `stage/tag`, and the losses' means on the progress bar."""
    for tag, value in curves.items():
        shown = stage == "train" and re.fullmatch(r"loss/[^/]+(?<!_std)(?<!_min)(?<!_max)", tag) is not None
        name = f"{stage}/{tag}"
        module.log(name, value, logger=False, prog_bar=shown, on_step=on_step, on_epoch=not on_step, batch_size=1)
