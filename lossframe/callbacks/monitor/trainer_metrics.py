"""Reads weights, learning rates and logged metrics from Lightning objects, and publishes curves to callbacks."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import pytorch_lightning as pl
import torch

from lossframe.errors import InputError
from lossframe.loggers import tags


def rates(trainer: pl.Trainer) -> list[float]:
    """Return the learning rate of each parameter group."""
    return [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]


def named_rates(rates: Sequence[float]) -> dict[str, float]:
    """Return the curve `lr`, or `lr/K` for each of several parameter groups, tag -> value."""
    named = {tags.RATE: rates[0]} if len(rates) == 1 else {f"{tags.RATE}/{k}": rate for k, rate in enumerate(rates)}
    return {tag: float(rate) for tag, rate in named.items()}


def unwritten(trainer: pl.Trainer, stage: str) -> dict[str, float]:
    """Return the metrics that were logged in a stage with `logger=False`, tag -> value."""
    return {
        name.removeprefix(f"{stage}/"): float(value)
        for name, value in trainer.callback_metrics.items()
        if name.startswith(f"{stage}/") and name not in trainer.logged_metrics
    }


def publish(trainer: pl.Trainer, stage: str, curves: dict[str, float], outdated: Iterable[str] = ()) -> None:
    """Put curves into `trainer.callback_metrics` as `stage/tag`, and training's terms on the progress bar.

    Tags in `outdated` are removed first. A curve whose name the module logs itself is an `InputError`. The function
    writes into Lightning's mappings, because `LightningModule.log` would cost as much per number and drain as computing
    all of them.
    """
    _check_logged(trainer, stage, curves)
    for tag in outdated:
        trainer.callback_metrics.pop(f"{stage}/{tag}", None)
    values = torch.tensor(list(curves.values())).unbind()
    trainer.callback_metrics.update(zip([f"{stage}/{tag}" for tag in curves], values, strict=True))
    if stage == "train":
        bar: dict[str, float] = trainer.progress_bar_metrics
        bar.update({f"{stage}/{tag}": curves[tag] for tag in tags.of_terms(curves)})


def _check_logged(trainer: pl.Trainer, stage: str, curves: Mapping[str, float]) -> None:
    """Raise an `InputError` if the module logs a metric under the name of a curve."""
    results: Mapping[str, Any] = getattr(trainer, "_results", None) or {}
    for name in {result.meta.name for result in results.values()}:
        tag = name.removeprefix(f"{stage}/")
        if tag != name and (tag in curves or tag + tags.of_dataloader(0) in curves):
            raise InputError(
                f"{type(trainer.lightning_module).__name__}.log and the LossMonitor would share the curve {name!r}: "
                "log it under another name, or leave it to the monitor"
            )


class Results:
    """Holds the dictionaries that `trainer.validate` or `trainer.test` is going to return, one a dataloader.

    Lightning writes what is logged before the end of an evaluation into the loggers, at the optimiser's step. Curves
    have another x axis, so they are added to the dictionaries after that.
    """

    def __init__(self, returned: Sequence[dict[str, Any]] = ()) -> None:
        self._returned = returned

    @classmethod
    def of(cls, trainer: pl.Trainer) -> Self:
        """Find the dictionaries before Lightning takes them away; none within a training."""
        if trainer.state.fn == "fit":
            return cls()
        return cls(list(getattr(getattr(trainer, "_evaluation_loop", None), "_logged_outputs", ())))

    def update(self, stage: str, parts: Mapping[str, Mapping[str, float]]) -> None:
        """Add the means of the terms and the total, by the suffix of each dataloader's curves."""
        for index, returned in enumerate(self._returned):
            for suffix in {"", tags.of_dataloader(index)} & parts.keys():
                means = [tag for tag in tags.means(parts[suffix]) if tag.startswith(f"{tags.LOSS}/")]
                returned.update({f"{stage}/{tag}{suffix}": parts[suffix][tag] for tag in means})


def synchronise(trainer: pl.Trainer) -> None:
    """Compute the metrics that a module has logged, on all ranks at the same place.

    Lightning computes them when they are first read, over all ranks. A progress bar reads them on rank 0 only, where
    their collectives would meet those of the monitor on the other ranks.
    """
    _ = trainer.callback_metrics


def batches_done(trainer: pl.Trainer) -> int:
    """Return the number of batches that have been trained on, also before a checkpoint."""
    return int(trainer.fit_loop.epoch_loop.batch_progress.total.completed)


def updates_normalisation_only(trainer: pl.Trainer) -> bool:
    """Return whether this epoch only updates the statistics of batch norm, as the last one of SWA does."""
    return bool(getattr(trainer.fit_loop, "_skip_backward", False))


def is_interrupted(trainer: pl.Trainer) -> bool:
    """Return whether an exception has ended the training, so that other ranks may be gone."""
    return trainer.state.status == "interrupted" and trainer.world_size > 1
