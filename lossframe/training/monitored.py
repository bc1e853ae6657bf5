"""Checks that what checkpoints and early stopping watch is there, before the first training batch if possible."""

from typing import Any

import pytorch_lightning as pl

from lossframe.errors import InputError, names, nearest
from lossframe.loggers import tags
from lossframe.statistics import series
from lossframe.training.learner import Learner

_OF_TERMS = (tags.LOSS, tags.WEIGHTED, tags.SHARE, tags.WEIGHT)


class MonitoredKeys(pl.Callback):
    """Raises an `InputError` for a callback whose `monitor` names no result of a validation.

    The check comes after Lightning's sanity check, which computes the metrics, and without one after the first
    validation. The statistics of losses, which a sanity check does not keep, are known by the names of the terms.
    """

    def __init__(self) -> None:
        self._checked = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse early stopping by results of a validation that `trainer.limit_val_batches=0` leaves out."""
        for callback in getattr(trainer, "early_stopping_callbacks"):  # noqa: B009 - Lightning's stubs do not know it
            if not trainer.enable_validation and callback.monitor.startswith("val/"):
                raise InputError(
                    f"{type(callback).__name__} watches {callback.monitor}, but there is no validation: leave it out, "
                    "give trainer.limit_val_batches more than 0, or watch a curve of training, as train/loss/total"
                )

    def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check after the sanity check."""
        self._check(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check after the first validation."""
        if not trainer.sanity_checking:
            self._check(trainer, pl_module)

    def _check(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._checked or not isinstance(pl_module, Learner):
            return
        self._checked = True
        terms = [*pl_module.objective.losses, tags.TOTAL]
        found = [*trainer.callback_metrics, *(f"val/{tags.of_loss(term)}" for term in terms)]
        found = [name for name in tags.means(found) if name.startswith("val/")]
        for callback in getattr(trainer, "callbacks"):  # noqa: B009 - Lightning's stubs do not know it
            monitor: Any = getattr(callback, "monitor", None)
            if not isinstance(monitor, str) or monitor.startswith("train/") or monitor in trainer.callback_metrics:
                continue
            if not _is_of_term(monitor, terms):
                raise InputError(
                    f"checkpoint_monitor.metric={monitor}: {type(callback).__name__} wanted a result of the "
                    f"validation, as {names(found)}.{nearest(monitor, found)}"
                )


def _is_of_term(monitor: str, terms: list[str]) -> bool:
    """Return whether a key names a statistic of a term, such as `val/loss/triplet_std`."""
    stage, _, tag = monitor.partition("/")
    kind, _, rest = tag.partition("/")
    known = {name for term in terms for name in (term, *(f"{term}_{suffix}" for suffix in series.suffixes()))}
    return stage == "val" and kind in _OF_TERMS and rest.partition("/")[0] in known
