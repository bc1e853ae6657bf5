"""Base class of the LossMonitor: finds the losses of a module, and monitors validations and tests."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_warn

from lossframe.callbacks.monitor.collector import Collector
from lossframe.callbacks.monitor.curves import Curves
from lossframe.callbacks.monitor.discovery import find_sources, forget_samples, keep_samples
from lossframe.callbacks.monitor.hooks import overrides, release, surround
from lossframe.callbacks.monitor.nonfinite import Guard
from lossframe.callbacks.monitor.places import Watch
from lossframe.callbacks.monitor.spikes import Spikes
from lossframe.callbacks.monitor.strays import Strays
from lossframe.callbacks.monitor.trainer_metrics import synchronise
from lossframe.errors import names
from lossframe.loggers import tags
from lossframe.loggers.custom_scalars import layout
from lossframe.loggers.position import Axis
from lossframe.loggers.stage_writer import StageWriter
from lossframe.losses.base.loss import Loss

Action = Callable[[pl.Trainer, pl.LightningModule], None]

STAGES = {"validation": "val", "test": "test"}
"""Prefixes of curves by the names that Lightning's hooks have for an evaluation."""


class EvaluationMonitor(pl.Callback):
    """Abstract base of the LossMonitor: writes the statistics of a module's losses after each validation and test.

    An evaluation holds what the losses record from its start until the end of the module's own hooks. Lightning calls
    a module's hook after those of all callbacks, so that the monitor surrounds the module's hooks.
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
        self._watch: Watch | None = None
        self._strays = Strays()
        self._curves = Curves(self._collector, self.stage_writer, Spikes(spikes))

    @property
    def samples_seen(self) -> int:
        """Number of training samples that all ranks have seen until the last drain: the x axis of the curves."""
        return self._collector.samples_seen

    def share(self, name: str, ask: Callable[[], Any], tell: Callable[[list[Any]], None]) -> None:
        """Let another callback send a small value to all ranks with each drain of training, which takes no collective.

        `ask` returns the value of this rank, and `tell` gets those of all ranks, in rank order. Call it on every rank.
        """
        self._collector.share(name, ask, tell)

    def before(self, pl_module: pl.LightningModule) -> dict[str, Action]:
        """Return what to do before hooks of the module, by the hook's name."""
        hooks = ("on_validation_model_zero_grad", "on_validation_model_eval", "on_test_model_eval")
        return dict.fromkeys(hooks, self.start_evaluation)

    def after(self, pl_module: pl.LightningModule) -> dict[str, Action]:
        """Return what to do after hooks of the module, by the hook's name."""
        actions: dict[str, Action] = {}
        for evaluation, stage in STAGES.items():
            actions[f"on_{evaluation}_epoch_end"] = partial(self._publish, stage)
            actions[_last_hook(evaluation, pl_module)] = partial(self.end_evaluation, evaluation)
        return actions

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find the losses that the module has made in its constructor, and become the first of the callbacks.

        A callback that saves a checkpoint then finds each batch counted, and none that synchronises a metric on some
        ranks only does so before the collectives of the monitor.
        """
        callbacks: list[pl.Callback] = getattr(trainer, "callbacks")  # noqa: B009 - Lightning's stubs do not know it
        trainer.callbacks = [self, *[each for each in callbacks if each is not self]]  # type: ignore[attr-defined]
        self.find(pl_module)
        before, after = (
            {hook: partial(self._act, action, trainer, pl_module) for hook, action in actions.items()}
            for actions in (self.before(pl_module), self.after(pl_module))
        )
        surround(pl_module, before, after)

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
            self._collector.enter(tags.of_dataloader(dataloader_idx))
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
        """Separate the values of the last of several dataloaders from those of the whole set, such as its AUC."""
        self._collector.enter("")

    on_test_epoch_end = on_validation_epoch_end

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the curves of a validation, unless hooks of the module that follow may add values."""
        if not trainer.sanity_checking and not _adds_late("validation", pl_module):
            self._curves.write_evaluation(trainer, "val")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the curves of a test, unless hooks of the module that follow may add values."""
        if not _adds_late("test", pl_module):
            self._curves.write_evaluation(trainer, "test")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close the event files, and restore the module's hooks."""
        release(pl_module)
        self._collector.stop()
        self.stage_writer.close()

    def look(self, pl_module: pl.LightningModule) -> None:
        """Find the losses of a module anew if it has changed; warn of losses that record values elsewhere."""
        if self._watch is None or self._watch.changed():
            self.find(pl_module)
        if strays := self._strays.look(self._collector.recorders.values()):
            rank_zero_warn(
                f"{names(strays)} records values, but {type(pl_module).__name__} does not hold it, so that it has no "
                "curve: make it an attribute of the module, or set record=False"
            )

    def find(self, pl_module: pl.LightningModule) -> None:
        """Find the losses and objectives of a module, and register them with collector, curves and guard."""
        sources = find_sources(pl_module) | self.guard.source()
        self._curves.sources = sources
        self._collector.replace({name: source.recorder for name, source in sources.items()})
        self.losses = {name: source.loss for name, source in sources.items() if source.loss is not None}
        if self.keeps_samples:
            keep_samples(self.losses)
        self.guard.watch(pl_module, self.losses, self._collector.recorders)
        self.stage_writer.layout = layout(self.losses)
        self._watch = Watch(pl_module)

    def ids_of(self, batch: Any) -> Any:
        """Return the names of a batch's samples, if it has any."""
        return batch.get(self.ids) if isinstance(batch, Mapping) else None

    def start_evaluation(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the losses, and drop all earlier values."""
        self.find(pl_module)
        self._collector.forget()

    def end_evaluation(self, evaluation: str, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the curves if the module's last hooks may have added values; drop what comes too late."""
        stage = STAGES[evaluation]
        if _adds_late(evaluation, pl_module):
            self._curves.evaluate_rest(trainer, stage)
            self._curves.write_evaluation(trainer, stage)
        if late := self._collector.unread():
            rank_zero_warn(
                f"{stage}: values of {names(late)} are in no curve, because a callback recorded them after the end of "
                f"the evaluation; record them in on_{evaluation}_epoch_end"
            )
            self._collector.drop_values()

    def _publish(self, stage: str, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Publish the losses of an evaluation, for callbacks that watch them."""
        self._curves.evaluate(trainer, stage)

    def _act(self, action: Action, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do what belongs to a hook, except in a sanity check, or while a tuner has taken the monitor out."""
        if any(each is self for each in trainer.callbacks) and not trainer.sanity_checking:  # type: ignore[attr-defined]
            synchronise(trainer)
            action(trainer, pl_module)


def _adds_late(evaluation: str, pl_module: pl.LightningModule) -> bool:
    """Return whether the module has hooks of its own after those of all callbacks."""
    return overrides(pl_module, f"on_{evaluation}_end") or overrides(pl_module, f"on_{evaluation}_model_train")


def _last_hook(evaluation: str, pl_module: pl.LightningModule) -> str:
    """Return the last hook of an evaluation; Lightning calls `on_*_model_train` only if the module has its own."""
    last = f"on_{evaluation}_model_train"
    return last if overrides(pl_module, last) else f"on_{evaluation}_end"
