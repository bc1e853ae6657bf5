"""Keeps loss values by sample, to name samples in error messages and to rank hard samples."""

import math
from typing import Any

import torch
from torch import Tensor

from lossframe.losses.base.inputs import Batch, size, tensors


class PerSample:
    """Per-sample values of one loss for the last batch of this rank; a callback that needs them sets `Loss.samples`.

    `values` holds one number per sample `[n]`, or a scalar if the loss has no value for each sample. `inputs` `[n]`
    holds the sum of each sample's inputs to a relational loss, whose values depend on other samples too.
    """

    __slots__ = ("inputs", "values")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Drop the values of the last batch, because not every step calls every loss."""
        self.values: Tensor | None = None
        self.inputs: Tensor | None = None

    def keep_inputs(self, inputs: dict[str, Any]) -> None:
        """Store the sum of each sample's floating inputs, which is not finite if one of the inputs is not."""
        found = [
            tensor.detach().flatten(1).sum(1) if tensor.ndim > 1 else tensor.detach()
            for tensor in tensors(inputs)
            if tensor.is_floating_point() and len(tensor) == size(inputs)
        ]
        self.inputs = torch.stack(found).sum(0) if found else None


def of_rank(values: Tensor, mask: Tensor | None, batch: Batch, rows_are_samples: bool) -> Tensor:
    """Return the values of this rank's samples `[n]`, or the sum of all values if the rows are no samples."""
    means = _means(values, mask, batch) if rows_are_samples else None
    if means is None:
        return values.sum()
    return means if batch.own is None else means[batch.own]


def _means(values: Tensor, mask: Tensor | None, batch: Batch) -> Tensor | None:
    """Return the mean value of each sample under the mask, 0 if it is empty; None unless each row is a sample."""
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
