"""The Lightning callback that drains what losses remember into the loggers."""

import time
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytorch_lightning as pl
from torch.optim import Optimizer

from lossframe.board import Board
from lossframe.errors import InputError
from lossframe.guard import Guard, Kept
from lossframe.layout import layout
from lossframe.sources import Source, curves, find_sources
from lossframe.statistics import Memory
from lossframe.surroundings import batch_size, beside, publish, unwritten
from lossframe.window import Drain, Seen, Window

GLOBAL_ALREADY = r"It is recommended to use `self.log\('(train|val|test)/(loss|weighted|share)/.*sync_dist"
"""Lightning's advice to reduce over ranks what a drain has made global."""


class _Reading(NamedTuple):
    """What was drained from this rank, perhaps not on the host yet; with `beside`, the end of a window."""

    drain: Drain
    kept: list[Kept]
    samples: int
    seconds: float
    beside: dict[str, float] | None


class LossMonitor(pl.Callback):
    """Writes every loss of the module to every logger, over samples seen, for train, val and test.

    Finds each `Loss` and `Objective` anywhere in the LightningModule. Every `log_every` training batches, and at the
    end of each training and validation epoch, it drains their statistics (one collective for all) and writes
    `loss/TERM` and, where the loss asks for them, `loss/TERM_std`, `_min`, `_max`, `_p5`, `_p50`, `_p95`, `_p99`; for
    an objective also `loss/total`, `weighted/TERM`, `share/TERM` and `weight/TERM`; `lr`, `gradient_norm` and
    `samples_per_second`. TensorBoard gets one run per stage, so that train and val share a chart, a page of bands
    under "custom scalars", and the histogram `values/TERM` of a loss with `log_quantiles`; other loggers get
    `train/loss/TERM`. The values are also in `trainer.callback_metrics`, as `val/loss/TERM`, for `ModelCheckpoint` and
    `EarlyStopping`.

    `nonfinite` says what happens when a value or a gradient is not finite, see `Guard`; `ids` is the batch's entry that
    says which samples those were. On a GPU no step waits for a drain: its point is written one drain later.
    """

    def __init__(self, log_every: int = 50, nonfinite: str = "raise", ids: str = "index") -> None:
        if log_every < 1:
            raise InputError(f"LossMonitor: wanted log_every >= 1, found {log_every}")
        self.log_every = log_every
        self.guard = Guard(nonfinite)
        self.ids = ids
        self.samples_seen = 0
        self.batches_seen = 0
        self.board = Board()
        self._trainer: pl.Trainer | None = None
        self._sources: dict[str, Source] = {}
        self._training = False
        self._window = Window()
        self._due: _Reading | None = None
        self._local_samples = 0
        self._clock = 0.0
        self._shown: dict[str, float] = {}
        self._evaluated: Seen = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find the losses."""
        self._trainer = trainer
        self._sources = find_sources(pl_module) | self.guard.source()
        losses = {name: source.loss for name, source in self._sources.items() if source.loss is not None}
        self.guard.watch(losses)
        self.board.layout = layout(losses)
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
        self.guard.keep(self.batches_seen, self._ids(batch))
        if self.batches_seen % self.log_every == 0:
            self._read(beside(trainer, pl_module))
            publish(pl_module, "train", self._shown, on_step=True)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Look at the gradients; leave out the step where the policy skips it."""
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            return  # a gradient scaler overflows on purpose, and skips those steps itself
        parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
        if self.guard.skips(pl_module, parameters):
            optimizer.zero_grad(set_to_none=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the rest of the epoch."""
        self._read(beside(trainer, pl_module))
        self._finish()
        publish(pl_module, "train", self._shown, on_step=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self._training = False

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the training window aside."""
        self._read()
        self._training = False

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what names the culprits of a value that is not finite."""
        self.guard.keep(batch_idx + 1, self._ids(batch))

    on_test_batch_end = on_validation_batch_end

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
        self._read()
        return {
            "samples_seen": self.samples_seen,
            "batches_seen": self.batches_seen,
            "skipped": self.guard.skipped,
            "window": self._window.state(),
            "written": dict(self.board.written),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint was made."""
        self.samples_seen = state_dict["samples_seen"]
        self.batches_seen = state_dict["batches_seen"]
        self.guard.skipped = state_dict["skipped"]
        self._window = Window.from_state(state_dict["window"])
        self.board.written = dict(state_dict["written"])
        self.board.resumed = True

    def _ids(self, batch: Any) -> Any:
        return batch.get(self.ids) if isinstance(batch, Mapping) else None

    def _memories(self) -> dict[str, Memory]:
        return {name: source.memory for name, source in self._sources.items()}

    def _forget(self) -> None:
        self._due = None
        self.guard.take()
        for memory in self._memories().values():
            memory.reset()

    def _resume_clock(self) -> None:
        self._training = True
        self._clock = time.monotonic()

    def _read(self, beside: dict[str, float] | None = None) -> None:
        """Drain what was seen since the last time; `beside` ends the window, with these curves beside the losses'."""
        if not self._training:
            return
        self._finish()
        now = time.monotonic()
        drain = Drain(self._memories())
        self._due = _Reading(drain, self.guard.take(), self._local_samples, now - self._clock, beside)
        self._clock, self._local_samples = now, 0
        if beside is None or not drain.in_flight:
            self._finish()

    def _finish(self) -> None:
        """Merge what was read, on all ranks, into the open window; write the window if it is the end of one."""
        if self._due is None:
            return
        reading, self._due = self._due, None
        seen, samples = self._merged(reading.drain, reading.kept, "train", reading.samples)
        self._window.add(seen, samples, reading.seconds)
        self.samples_seen += samples
        if reading.beside is None or not self._window.samples:
            return
        window, self._window = self._window, Window()
        self._shown = curves(self._sources, window.seen)
        speed = {"samples_per_second": window.samples / max(window.seconds, 1e-9)}
        self._write("train", self._shown | reading.beside | speed, window.seen)

    def _evaluate(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if trainer.sanity_checking:
            return
        seen, _ = self._merged(Drain(self._memories()), self.guard.take(), stage)
        self._evaluated = seen
        self._shown = curves(self._sources, seen)
        publish(pl_module, stage, self._shown, on_step=False)

    def _merged(self, drain: Drain, kept: list[Kept], stage: str, samples: int = 0) -> tuple[Seen, int]:
        """Return what all ranks saw, in how many samples; say what was not finite."""
        seen, notes = drain.merged(lambda local: (samples, self.guard.finding(local, kept)))
        warning = self.guard.judge(stage, seen, [finding for _, finding in notes])
        if warning is not None:
            warnings.warn(warning, stacklevel=2)
        return seen, sum(count for count, _ in notes)

    def _write_evaluation(self, trainer: pl.Trainer, stage: str) -> None:
        """Write the stage's losses, and what was logged for callbacks only."""
        if trainer.sanity_checking:
            return
        self._write(stage, unwritten(trainer, stage) | self._shown, self._evaluated)

    def _write(self, stage: str, scalars: dict[str, float], seen: Seen) -> None:
        trainer = self._trainer
        if trainer is not None and trainer.is_global_zero:
            values = {f"values/{term}": named["loss"] for term, named in seen.items() if "loss" in named}
            self.board.write(trainer.loggers, stage, scalars, values, self.samples_seen)
