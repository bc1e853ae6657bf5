"""Keeps a loss by sample, to name samples in error messages and to rank hard samples."""

import math
from typing import Any

import torch
from torch import Tensor

from lossframe.losses.base.inputs import Batch, size, tensors


class PerSample:
    """The values of one loss by sample of this rank's last batch; `Loss.samples` is one where a callback asks for it.

    `values` is one number a sample `[n]`, or a scalar where the loss has no value for each. `inputs` `[n]` is the sum
    of each sample's inputs to a relational loss, whose values depend on the other samples too.
    """

    __slots__ = ("inputs", "values")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Drop the last batch: not every step calls every loss."""
        self.values: Tensor | None = None
        self.inputs: Tensor | None = None

    def keep_inputs(self, inputs: dict[str, Any]) -> None:
        """Keep the sum of each sample's floating inputs, which is finite where they are."""
        found = [
            tensor.detach().flatten(1).sum(1) if tensor.ndim > 1 else tensor.detach()
            for tensor in tensors(inputs)
            if tensor.is_floating_point() and len(tensor) == size(inputs)
        ]
        self.inputs = torch.stack(found).sum(0) if found else None


def of_rank(values: Tensor, mask: Tensor | None, batch: Batch, rows_are_samples: bool) -> Tensor:
    """Return this rank's values by sample `[n]`, or their sum where the loss has no value for each sample."""
    means = _means(values, mask, batch) if rows_are_samples else None
    if means is None:
        return values.sum()
    return means if batch.own is None else means[batch.own]


def _means(values: Tensor, mask: Tensor | None, batch: Batch) -> Tensor | None:
    """Return each sample's mean over its values under the mask, 0 where it has none; None unless a row is a sample."""
    if not values.ndim or values.shape[0] != size(batch.inputs):
        return None
    if values.ndim > 1:
        counted = (
            values.new_full((), math.prod(values.shape[1:]))
            if mask is None
            else mask.expand_as(values).flatten(1).sum(1)
        )
        values = values.flatten(1).sum(1) / counted.clamp_min(1)
    if batch.kept is None:
        return values
    return values.new_zeros(len(batch.kept)).masked_scatter(batch.kept, values)
