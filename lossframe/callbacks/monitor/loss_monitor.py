"""Lightning callback that writes the statistics of losses into the loggers."""

import logging
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_warn
from torch.optim import Optimizer

from lossframe.callbacks.monitor.batch_size import batch_size
from lossframe.callbacks.monitor.discovery import forget_samples, weights
from lossframe.callbacks.monitor.evaluation import Action, EvaluationMonitor
from lossframe.callbacks.monitor.hooks import overrides
from lossframe.callbacks.monitor.trainer_metrics import (
    batches_done,
    is_interrupted,
    named_rates,
    rates,
    synchronise,
    updates_normalisation_only,
)
from lossframe.callbacks.monitor.window import Progress, check_state
from lossframe.counts import check_counts
from lossframe.errors import InputError, names
from lossframe.loggers.position import Axis, Position

_log = logging.getLogger(__name__)


class LossMonitor(EvaluationMonitor):
    """Writes the statistics of every loss of a module to every logger, over samples seen, for train, val and test.

    Finds each `Loss` and `Objective` anywhere in the LightningModule. Every `log_every` training batches, and at the
    end of each training and validation epoch, it drains their statistics (one collective for all) and writes
    `loss/TERM` and, if the loss selects them, `loss/TERM_std`, `_min`, `_max`, `_p5`, `_p50`, `_p95`, `_p99`; for
    an objective also `loss/total`, `weighted/TERM`, `share/TERM` and `weight/TERM`; `lr`, `gradient_norm` and
    `samples_per_second`. TensorBoard gets one run per stage, so that train and val share a chart, a page of bands
    under "custom scalars", and the histogram `values/TERM` of a loss with `log_quantiles`; other loggers get
    `train/loss/TERM`. The values are also in `trainer.callback_metrics`, as `val/loss/TERM`, for `ModelCheckpoint` and
    `EarlyStopping`. Each of several validation or test dataloaders has curves such as `loss/TERM/dataloader_idx_0`.

    `nonfinite` says what happens when a value or a gradient is not finite, see `Guard`; `ids` is the entry of the batch
    that names its samples in the message. A point of a curve that is `spikes` robust deviations above recent points is
    noted in the log and in TensorBoard's tab "text", see `Spikes`. On a GPU no step waits for a drain, and each point
    is written one drain later.

    `x` is TensorBoard's x axis: "samples" seen, optimiser "steps" or "epochs", see `StageWriter`. With "epochs", the
    curves of training have one point per epoch.

    The number of samples is the length of the batch's first tensor, also in a dataclass; without a tensor, an object's
    `num_graphs` or `batch_size`, or the length of a list. A function `batch_size` of the batch overrides this, as
    `lambda batch: batch["tokens"].shape[1]` for tensors `[T, B]`.
    """

    def __init__(
        self,
        log_every: int = 50,
        nonfinite: str = "raise",
        ids: str = "index",
        spikes: float | None = 10.0,
        batch_size: Callable[[Any], int] = batch_size,
        x: Axis = "samples",
    ) -> None:
        check_counts("LossMonitor", log_every=log_every)
        if spikes is not None and not spikes > 0:
            raise InputError(f"LossMonitor: wanted spikes > 0, or None for no warnings, found {spikes}")
        self.log_every, self.batch_size = log_every, batch_size
        self.batches_seen = 0
        self._resumed = False
        self._trainer: pl.Trainer | None = None
        self._rates: list[float] = []
        super().__init__(nonfinite, ids, spikes, x)

    def after(self, pl_module: pl.LightningModule) -> dict[str, Action]:
        """Return what to do after hooks of the module, by the hook's name."""
        return super().after(pl_module) | {"on_train_epoch_end": self._end_epoch, "on_train_end": self._end_training}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find the losses that the module has made in its constructor; the training of another trainer starts anew."""
        if stage == "fit" and self._trainer is not None and trainer is not self._trainer:
            self._begin()
            self.batches_seen = 0
        if stage == "fit" or trainer is not self._trainer:  # a test of earlier weights adds to the event files
            self.stage_writer.resume(None)
        self._trainer = trainer
        super().setup(trainer, pl_module, stage)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the losses that the module has made in `setup` or `configure_model` too."""
        self.find(pl_module)

    def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop the values of the sanity check."""
        self._collector.forget()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start collecting, from the open window of the checkpoint if training is resumed; warn if there is no loss."""
        self.find(pl_module)
        if not self.losses:
            rank_zero_warn(
                f"LossMonitor found no Loss in {type(pl_module).__name__}: make one an attribute of it (NativeLoss "
                "wraps those of other libraries), or leave out the monitor"
            )
        if self._resumed:
            self.stage_writer.resume(Position.of(trainer, self.samples_seen))
        self._collector.forget()
        self._collector.start()
        self._count_earlier(batches_done(trainer))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin an epoch at its first batch; keep the learning rates, which a scheduler changes before a batch ends."""
        if batch_idx == 0:
            self._start_epoch(trainer, pl_module)
        forget_samples(self.losses)
        self._rates = rates(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the samples of the batch; drain and write every `log_every` batches."""
        self.batches_seen += 1
        if updates_normalisation_only(trainer):
            self._collector.drop_values()
            return
        self._collector.count(0 if batch is None else self.batch_size(batch))
        self.guard.keep(self.batches_seen, self.ids_of(batch))
        if self.batches_seen % self.log_every == 0:
            closes = self.stage_writer.x != "epochs"  # where an epoch is one point
            self._read(self._progress(trainer) if closes else None, wait=False)
            self._curves.publish_window(trainer)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Compute gradient norms, and skip the optimiser's step if the policy `nonfinite` says so."""
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
        if self.guard.skips(parameters, scaled):
            optimizer.zero_grad(set_to_none=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compute logged metrics on all ranks, before a callback that comes later does so on some."""
        synchronise(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Continue the curves also where a checkpoint left nothing to train."""
        if self._resumed and self.stage_writer.resumed is None:
            self.stage_writer.resume(Position.of(trainer, self.samples_seen))
            self.stage_writer.keep_rows(trainer.loggers)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write the open window, on several ranks only as far as it has been drained; hide no error by another."""
        try:
            if not is_interrupted(trainer):
                self.guard.settle()
                self._read()
            self._curves.write_window(trainer, self._progress(trainer))
        except Exception as error:  # the disk may be full
            _log.warning("LossMonitor could not write the last window: %s", error)
        self._close(trainer, pl_module)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close the event files, and restore the module's hooks."""
        self._close(trainer, pl_module)

    def start_evaluation(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drain training into its open window; outside of training, drop all earlier values."""
        if trainer.state.fn == "fit":
            self._read()
            self._collector.stop()
        else:
            super().start_evaluation(trainer, pl_module)

    def end_evaluation(self, evaluation: str, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on with training after a validation."""
        super().end_evaluation(evaluation, trainer, pl_module)
        if trainer.state.fn == "fit":
            self._collector.start()

    def state_dict(self) -> dict[str, Any]:
        """Drain all ranks, and return the open window and the last step of each curve."""
        if self._trainer is not None and not is_interrupted(self._trainer):
            synchronise(self._trainer)
            self._read()
        return {
            "batches_seen": self.batches_seen,
            "collector": self._collector.state_dict(),
            "spikes": self._curves.spikes.state_dict(),
            "written": dict(self.stage_writer.written),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        check_state(state_dict)
        self.batches_seen = state_dict["batches_seen"]
        self._collector.load_state_dict(state_dict["collector"])
        self._curves.spikes.load_state_dict(state_dict["spikes"])
        self.stage_writer.written = dict(state_dict["written"])
        self._resumed = self.batches_seen > 0

    def _close(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the use of a trainer; say what is in no curve, such as values after an exception on several ranks."""
        if trainer.state.fn == "fit" and (unread := self._collector.unread()):
            _log.warning("train: values of %s are in no curve: training had ended", names(unread))
        self._resumed = False
        super().teardown(trainer, pl_module, "")

    def _read(self, closed: Progress | None = None, wait: bool = True) -> None:
        """Take a snapshot of training; with `closed`, close the window and write it."""
        if self._trainer is not None:
            self.look(self._trainer.lightning_module)
            self._curves.collect(self._trainer, closed, wait)

    def _progress(self, trainer: pl.Trainer) -> Progress:
        """Describe where training is, for the point that closes a window."""
        curves = weights(self._curves.sources) | named_rates(self._rates)
        return Progress(Position.of(trainer, self.samples_seen), curves)

    def _count_earlier(self, done: int) -> None:
        """Warn of batches of an earlier training that no monitor has counted."""
        if done > self.batches_seen:
            self._collector.uncounted, self.batches_seen = done - self.batches_seen, done
            rank_zero_warn(
                f"the checkpoint does not say how many samples its last {self._collector.uncounted} batches had, for "
                "there was no LossMonitor: they are taken to be as large as the batches that follow"
            )

    def _start_epoch(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the losses of a new epoch; write the last window of an earlier one that a checkpoint has cut off."""
        self.find(pl_module)
        if self._collector.window.samples:
            self._curves.write_window(trainer, self._progress(trainer))
        self._collector.start_epoch()

    def _end_epoch(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the last window of the epoch, and publish the statistics of the epoch."""
        self.guard.settle()
        self._read(self._progress(trainer))
        self._curves.publish_epoch(trainer)

    def _end_training(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what the module's own hook may have added since the last epoch, or a checkpoint has left to write."""
        if overrides(pl_module, "on_train_end"):
            self.guard.settle()
            self._read()
        self._curves.write_window(trainer, self._progress(trainer))
        self._collector.stop()
