"""Slow float64 references of every loss in the catalogue: naive all-pairs formulas, and the reduction under weights.

`values(criterion, inputs)` returns the unreduced values of a loss, their counts and the weights they carry, from the
formula in the loss's docstring; `reduced(criterion, inputs, weight)` the value of a call. Both are differentiable, use
nothing of `lossframe.losses.algorithms`, and stay finite for inputs of float32's range.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from plain_batches import OF_BATCHES
from plain_samples import OF_SAMPLES
from torch import Tensor

from lossframe import Loss
from lossframe.losses.ordinal import Ordinal

Inputs = dict[str, Tensor]


class Plain(NamedTuple):
    """Unreduced values, how many elementary penalties each stands for, and the weight that each carries."""

    values: Tensor
    counts: Tensor | None = None
    carried: Tensor | None = None


def wide(inputs: Inputs) -> Inputs:
    """Return floating inputs in float64, and all others in int64."""
    return {name: t.double() if t.is_floating_point() else t.long() for name, t in inputs.items()}


def values(criterion: Loss, inputs: Inputs) -> Plain:
    """Return what the docstring's formula gives for the inputs, in float64."""
    found = {**OF_SAMPLES, **OF_BATCHES}[type(criterion)](criterion, **wide(inputs))
    return Plain(found) if isinstance(found, Tensor) else Plain(*found)


def reduced(criterion: Loss, inputs: Inputs, weight: Tensor | None = None) -> Tensor:
    """Return the value of a call under tf.contrib's semantics of weights."""
    return reduce(criterion, inputs, weight, lambda kept: values(criterion, kept))


def own(criterion: Loss, inputs: Inputs) -> Plain:
    """Return what the criterion's own formula gives."""
    return Plain(criterion.loss(**inputs), criterion.counts(**inputs), criterion.carried_weight(**inputs))


def reduce(criterion: Loss, inputs: Inputs, weight: Tensor | None, formula: Callable[[Inputs], Plain]) -> Tensor:
    """Reduce what a formula gives; samples of weight 0 do not take part in a relational loss at all."""
    weight = None if weight is None else torch.as_tensor(weight).double()
    kept = None
    if criterion.relational and weight is not None and weight.ndim:
        weight = weight.reshape(-1)
        kept = weight != 0
        inputs, weight = {name: t[kept] for name, t in inputs.items()}, weight[kept]
    found = formula(inputs)
    v = found.values
    # one value for the batch, or for each class of it, knows samples in and out
    whole = kept is not None and (v.shape[:1] != weight.shape or of_batch(criterion))
    w = torch.ones_like(v) if weight is None or whole else along(weight, v)
    counts = torch.ones_like(v) if found.counts is None else found.counts.to(v.dtype).expand_as(v)
    counts = counts * (w != 0)
    weighted = torch.where(counts != 0, w, 0) * torch.where(counts != 0, v, 0)
    if criterion.reduction == "none":
        return weighted if kept is None or whole else at(weighted, kept)
    samples = len(kept) if kept is not None and not whole else len(v) if v.ndim else 1
    denominator = {
        "sum": torch.ones(()),
        "batch_mean": torch.tensor(float(max(samples, 1))),
        "element_mean": torch.tensor(float(max(samples * math.prod(v.shape[1:]), 1))),
        "mean": counts.sum(),
        "weighted_mean": (counts * w * (1.0 if found.carried is None else found.carried)).sum(),
    }[criterion.reduction]
    return weighted.sum() / denominator if denominator != 0 else weighted.sum() * 0


def of_batch(criterion: Loss) -> bool:
    """Return whether a loss gives its values for the batch, also where that holds one sample, or none."""
    return isinstance(criterion, Ordinal) or bool(getattr(criterion, "batch", False))


def along(weight: Tensor, v: Tensor) -> Tensor:
    """Broadcast a weight to values from the left."""
    weight = weight.reshape(()) if weight.shape == (1,) else weight
    return weight.reshape(*weight.shape, *[1] * (v.ndim - weight.ndim)).expand_as(v) if weight.ndim else weight


def at(rows: Tensor, kept: Tensor) -> Tensor:
    """Put rows where a mask is true, and zeros elsewhere."""
    return rows.new_zeros(len(kept), *rows.shape[1:]).index_put((kept,), rows)
