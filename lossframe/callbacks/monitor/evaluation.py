"""Base class of the LossMonitor: finds the losses of a module, and monitors validations and tests."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytorch_lightning as pl

from lossframe.callbacks.monitor.collector import Collector
from lossframe.callbacks.monitor.curves import Curves
from lossframe.callbacks.monitor.discovery import find_sources, forget_samples, keep_samples
from lossframe.callbacks.monitor.hooks import follow, overrides, unfollow
from lossframe.callbacks.monitor.nonfinite import Guard
from lossframe.callbacks.monitor.spikes import Spikes
from lossframe.callbacks.monitor.trainer_metrics import synchronise
from lossframe.loggers.custom_scalars import layout
from lossframe.loggers.position import Axis
from lossframe.loggers.stage_writer import StageWriter
from lossframe.losses.base.loss import Loss

Then = Callable[[pl.Trainer, pl.LightningModule], None]


class EvaluationMonitor(pl.Callback):
    """Abstract base of the LossMonitor: writes the statistics of a module's losses after each validation and test.

    An evaluation holds what the losses record from its start until the end of the module's own hooks. Lightning calls
    a module's hook after those of all callbacks, so that the monitor follows the module's hooks; see `follow`.
    """

    def __init__(self, nonfinite: str, ids: str, spikes: float | None, x: Axis) -> None:
        self.ids = ids
        self.losses: dict[str, Loss] = {}
        self.keeps_samples = False
        self._options = nonfinite, spikes, x
        self._begin()

    def _begin(self) -> None:
        """Start without any state of an earlier training."""
        nonfinite, spikes, x = self._options
        self.guard = Guard(nonfinite)
        self.stage_writer = StageWriter(x)
        self._collector = Collector(self.guard)
        self._curves = Curves(self._collector, self.stage_writer, Spikes(spikes))

    def follows(self) -> dict[str, Then]:
        """Return what to do after each hook of the module, by the hook's name."""
        after: dict[str, Then] = {}
        for hook, stage in (("validation", "val"), ("test", "test")):
            after[f"on_{hook}_epoch_end"] = partial(self._evaluate, stage)
            after[f"on_{hook}_end"] = partial(self._end_evaluation, stage)
        return after

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find the losses that the module has made in its constructor, and become the first of the callbacks.

        A callback that saves a checkpoint then finds each batch counted, and none that synchronises a metric on some
        ranks only does so before the collectives of the monitor.
        """
        callbacks: list[pl.Callback] = getattr(trainer, "callbacks")  # noqa: B009 - Lightning's stubs do not know it
        trainer.callbacks = [self, *[each for each in callbacks if each is not self]]  # type: ignore[attr-defined]
        self.find(pl_module)
        follow(
            pl_module, {hook: partial(self._follow, then, trainer, pl_module) for hook, then in self.follows().items()}
        )

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the losses, and drop all earlier values."""
        self.find(pl_module)
        self._collector.forget()

    on_test_start = on_validation_start

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
        self.guard.keep(batch_idx + 1, self.ids_of(batch))

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Separate the values of the last of several dataloaders from those of the whole set."""
        self._collector.leave()

    on_test_epoch_end = on_validation_epoch_end

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the curves of a validation, unless the module's own hook may add values."""
        if not trainer.sanity_checking and not overrides(pl_module, "on_validation_end"):
            self._curves.write_evaluation(trainer, "val")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the curves of a test, unless the module's own hook may add values."""
        if not overrides(pl_module, "on_test_end"):
            self._curves.write_evaluation(trainer, "test")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close the event files, and restore the module's hooks."""
        unfollow(pl_module)
        self._collector.stop()
        self.stage_writer.resumed = None
        self.stage_writer.close()

    def find(self, pl_module: pl.LightningModule) -> None:
        """Find the losses and objectives of a module, and register them with collector, curves and guard."""
        sources = find_sources(pl_module) | self.guard.source()
        self._curves.sources = sources
        self._collector.recorders = {name: source.recorder for name, source in sources.items()}
        self.losses = {name: source.loss for name, source in sources.items() if source.loss is not None}
        if self.keeps_samples:
            keep_samples(self.losses)
        self.guard.watch(pl_module, self.losses)
        self.stage_writer.layout = layout(self.losses)

    def ids_of(self, batch: Any) -> Any:
        """Return the names of a batch's samples, if it has any."""
        return batch.get(self.ids) if isinstance(batch, Mapping) else None

    def _follow(self, then: Then, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do what follows a hook, except in a sanity check, or while a tuner has taken the monitor out."""
        if any(each is self for each in trainer.callbacks) and not trainer.sanity_checking:  # type: ignore[attr-defined]
            synchronise(trainer)
            then(trainer, pl_module)

    def _evaluate(self, stage: str, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Publish the losses of an evaluation, for callbacks that watch them."""
        self._curves.evaluate(trainer, stage)

    def _end_evaluation(self, stage: str, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the curves if the module's last hook may have added values; drop what comes too late."""
        if overrides(pl_module, {"val": "on_validation_end", "test": "on_test_end"}[stage]):
            self._curves.evaluate_rest(trainer, stage)
            self._curves.write_evaluation(trainer, stage)
        self._collector.drop_late(stage)
