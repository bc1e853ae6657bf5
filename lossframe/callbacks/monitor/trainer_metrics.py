"""Reads weights, learning rates and logged metrics from Lightning objects, and publishes curves to callbacks."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch

from lossframe.callbacks.monitor.discovery import Source, weights
from lossframe.errors import InputError
from lossframe.loggers import tags


def weights_and_rates(trainer: pl.Trainer, sources: Mapping[str, Source]) -> dict[str, float]:
    """Return the curves of term weights and learning rates, tag -> value."""
    return weights(sources) | learning_rates(trainer)


def learning_rates(trainer: pl.Trainer) -> dict[str, float]:
    """Return the learning rate as `lr`, or those of several parameter groups as `lr/K`."""
    rates = [float(group["lr"]) for optimizer in trainer.optimizers for group in optimizer.param_groups]
    return {tags.RATE: rates[0]} if len(rates) == 1 else {f"{tags.RATE}/{k}": rate for k, rate in enumerate(rates)}


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
        bar.update({f"{stage}/{tag}": value for tag, value in curves.items() if tags.is_term(tag)})


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
