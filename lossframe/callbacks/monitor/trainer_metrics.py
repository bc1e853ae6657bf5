"""What a drain needs of a batch, a module and a trainer."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lossframe.callbacks.monitor.discovery import weights
from lossframe.errors import InputError
from lossframe.loggers import tags
from lossframe.losses.base.inputs import leaves

_TOLD = ("num_graphs", "batch_size")


def beside(trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, float]:
    """Return what is shown beside the losses: their weights and the learning rate."""
    return weights(module) | learning_rates(trainer)


def batch_size(batch: Any) -> int:
    """Return the number of samples of a batch: the length of its first tensor, or else what is known without one."""
    entries = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, (list, tuple)) else [batch]
    for leaf in leaves(entries) or pytree.tree_leaves(batch):
        if isinstance(leaf, Tensor) and leaf.ndim:
            return leaf.shape[0]
    if (size := _size_of_objects(batch)) is not None:
        return size
    raise InputError(
        f"LossMonitor: wanted a batch with a tensor of samples, found {type(batch).__name__}; say how many samples it "
        "has by LossMonitor(batch_size=...), a function of the batch"
    )


def _size_of_objects(batch: Any) -> int | None:
    """Return the length of the first tensor in a dataclass; else the size that an object tells, or a list's length."""
    opened = _opened(batch)
    found = pytree.tree_leaves(opened)
    rows = [leaf.shape[0] for leaf in found if isinstance(leaf, Tensor) and leaf.ndim]
    told = [size for leaf in found for name in _TOLD if type(size := getattr(leaf, name, None)) is int]
    entries = opened.values() if isinstance(opened, Mapping) else [opened]
    listed = [len(entry) for entry in entries if isinstance(entry, (list, tuple))]
    return next(iter(rows + told + listed), None)


def _opened(batch: Any) -> Any:
    """Return a batch whose dataclasses are dicts of their fields."""

    def opened(leaf: Any) -> Any:
        if is_dataclass(leaf) and not isinstance(leaf, type):
            return _opened({field.name: getattr(leaf, field.name) for field in fields(leaf)})
        return leaf

    return pytree.tree_map(opened, batch)


def learning_rates(trainer: pl.Trainer) -> dict[str, float]:
    """Return `lr`, or `lr/K` for the K-th parameter group where there are several."""
    rates = [float(group["lr"]) for optimizer in trainer.optimizers for group in optimizer.param_groups]
    return {tags.RATE: rates[0]} if len(rates) == 1 else {f"{tags.RATE}/{k}": rate for k, rate in enumerate(rates)}


def unwritten(trainer: pl.Trainer, stage: str) -> dict[str, float]:
    """Return what was logged in a stage for callbacks only, by its tag."""
    return {
        name.removeprefix(f"{stage}/"): float(value)
        for name, value in trainer.callback_metrics.items()
        if name.startswith(f"{stage}/") and name not in trainer.logged_metrics
    }


def publish(trainer: pl.Trainer, stage: str, curves: dict[str, float], outdated: Iterable[str] = ()) -> None:
    """Put curves into `trainer.callback_metrics` as `stage/tag`, without outdated ones; training's on the progress bar.

    Straight into Lightning's own mappings, which it only adds to: `LightningModule.log` would cost as much for each
    number at each drain as computing all of them.
    """
    for tag in outdated:
        trainer.callback_metrics.pop(f"{stage}/{tag}", None)
    values = torch.tensor(list(curves.values())).unbind()
    trainer.callback_metrics.update(zip([f"{stage}/{tag}" for tag in curves], values, strict=True))
    if stage == "train":
        bar: dict[str, float] = trainer.progress_bar_metrics
        bar.update({f"{stage}/{tag}": value for tag, value in curves.items() if tags.is_term(tag)})
