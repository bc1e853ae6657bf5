"""Lightning callback that writes the statistics of losses into the loggers."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_warn
from torch.optim import Optimizer

from lossframe.callbacks.monitor.batch_size import batch_size
from lossframe.callbacks.monitor.collector import Collector
from lossframe.callbacks.monitor.curves import Curves
from lossframe.callbacks.monitor.discovery import find_sources, forget_samples, keep_samples
from lossframe.callbacks.monitor.nonfinite import Guard
from lossframe.callbacks.monitor.spikes import Spikes
from lossframe.callbacks.monitor.trainer_metrics import publish, weights_and_rates
from lossframe.errors import InputError
from lossframe.loggers.custom_scalars import layout
from lossframe.loggers.stage_writer import StageWriter
from lossframe.losses.base.loss import Loss

_log = logging.getLogger(__name__)


class LossMonitor(pl.Callback):
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
    ) -> None:
        if log_every < 1:
            raise InputError(f"LossMonitor: wanted log_every >= 1, found {log_every}")
        self.log_every = log_every
        self.guard = Guard(nonfinite)
        self.ids = ids
        self.batch_size = batch_size
        self.batches_seen = 0
        self.stage_writer = StageWriter()
        self.losses: dict[str, Loss] = {}
        self.keeps_samples = False
        self._resumed = False
        self._trainer: pl.Trainer | None = None
        self._collector = Collector(self.guard)
        self._curves = Curves(self._collector, self.stage_writer, Spikes(spikes))

    @property
    def samples_seen(self) -> int:
        """Number of training samples that all ranks have seen until the last drain: the x axis of the curves."""
        return self._collector.samples_seen

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find the losses that the module has made in its constructor."""
        self._trainer = trainer
        self._find(pl_module)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the losses that the module has made in `setup` or `configure_model` too; warn if there is none."""
        self._find(pl_module)
        if not self.losses:
            rank_zero_warn(
                f"LossMonitor found no Loss in {type(pl_module).__name__}: make one an attribute of it (NativeLoss "
                "wraps those of other libraries), or leave out the monitor"
            )

    def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop the values of the sanity check."""
        self._collector.forget()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start collecting, from the open window of the checkpoint if training is resumed."""
        self.stage_writer.resumed = (
            self._resumed
        )  # only training purges: a test of earlier weights adds to the event files
        self._collector.forget()
        self._collector.start()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Drop the per-sample values of the last batch."""
        forget_samples(self.losses)

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int | None = None,
    ) -> None:
        """Separate the values of several dataloaders; drop the per-sample values of the last batch."""
        if dataloader_idx is not None:  # Lightning passes an index only if there are several
            self._collector.enter(dataloader_idx)
        forget_samples(self.losses)

    on_test_batch_start = on_validation_batch_start

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the samples of the batch; drain and write every `log_every` batches."""
        self._collector.local_samples += self.batch_size(batch)
        self.batches_seen += 1
        self.guard.keep(self.batches_seen, self._ids(batch))
        if self.batches_seen % self.log_every == 0:
            self._read(weights_and_rates(trainer, pl_module), wait=False)
            publish(trainer, "train", self._curves.shown.get("train", {}))

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Compute gradient norms, and skip the optimiser's step if the policy `nonfinite` says so."""
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
        if self.guard.skips(parameters, scaled):
            optimizer.zero_grad(set_to_none=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drain and write the last batches of the epoch."""
        self.guard.settle()
        self._read(weights_and_rates(trainer, pl_module))
        publish(trainer, "train", self._curves.shown.get("train", {}))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock of training."""
        self._collector.stop()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drain training into its open window; outside of training, drop all earlier values."""
        if trainer.state.fn != "fit":
            self._start(pl_module)
        self._read()
        self._collector.stop()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep references that name the samples of a value that is not finite."""
        self.guard.keep(batch_idx + 1, self._ids(batch))

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Publish the validation losses, for callbacks that watch them."""
        self._curves.evaluate(trainer, "val")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the validation losses, and metrics that were logged with `logger=False`."""
        self._curves.write_evaluation(trainer, "val")
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._collector.start()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop all earlier values before a test."""
        self._start(pl_module)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Publish the test losses."""
        self._curves.evaluate(trainer, "test")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the test losses, and metrics that were logged with `logger=False`."""
        self._curves.write_evaluation(trainer, "test")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close the event files."""
        self._collector.stop()
        self._resumed = self.stage_writer.resumed = False
        self.stage_writer.close()

    def state_dict(self) -> dict[str, Any]:
        """Drain all ranks, and return the open window and the last step of each curve."""
        self._read()
        return {
            "batches_seen": self.batches_seen,
            "collector": self._collector.state_dict(),
            "spikes": self._curves.spikes.state_dict(),
            "written": dict(self.stage_writer.written),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.batches_seen = state_dict["batches_seen"]
        self._collector.load_state_dict(state_dict["collector"])
        self._curves.spikes.load_state_dict(state_dict["spikes"])
        self.stage_writer.written = dict(state_dict["written"])
        self._resumed = True

    def _read(self, curves: dict[str, float] | None = None, wait: bool = True) -> None:
        """Take a snapshot of training; with `curves`, which are written with the losses, close the window."""
        if self._trainer is not None:
            self._curves.collect(self._trainer, curves, wait)

    def _start(self, pl_module: pl.LightningModule) -> None:
        """Start an evaluation outside of training: find the losses, and drop all earlier values."""
        self._find(pl_module)
        self._collector.forget()

    def _find(self, pl_module: pl.LightningModule) -> None:
        """Find the losses and objectives of a module, and register them with collector, curves and guard."""
        sources = find_sources(pl_module) | self.guard.source()
        self._curves.sources = sources
        self._collector.recorders = {name: source.recorder for name, source in sources.items()}
        self.losses = {name: source.loss for name, source in sources.items() if source.loss is not None}
        if self.keeps_samples:
            keep_samples(self.losses)
        self.guard.watch(pl_module, self.losses, self._collector.recorders)
        self.stage_writer.layout = layout(self.losses)

    def _ids(self, batch: Any) -> Any:
        return batch.get(self.ids) if isinstance(batch, Mapping) else None
