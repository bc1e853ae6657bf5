"""What a loss gave for each sample of a batch, for those who want to know who is to blame."""

import math
from typing import Any

import torch
from torch import Tensor

from lossframe.losses.base.inputs import size, tensors


class BySample:
    """What a loss gave for each sample of this rank's last batch; `Loss.by_sample` has one where somebody looks.

    `values` is one number a sample `[n]`, or one in all where the loss has none for each. `inputs` `[n]` is the sum of
    each sample's inputs, of a relational loss: its values depend on the other samples too.
    """

    __slots__ = ("inputs", "values")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Forget the last batch: not every step calls every loss."""
        self.values: Tensor | None = None
        self.inputs: Tensor | None = None


def sums(inputs: dict[str, Any]) -> Tensor | None:
    """Return the sum `[N]` of each sample's floating inputs, which is finite where they are; None without any."""
    found = [
        tensor.detach().flatten(1).sum(1) if tensor.ndim > 1 else tensor.detach()
        for tensor in tensors(inputs)
        if tensor.is_floating_point() and len(tensor) == size(inputs)
    ]
    return torch.stack(found).sum(0) if found else None


def means(values: Tensor, mask: Tensor | None, keep: Tensor | None, samples: int) -> Tensor | None:
    """Return each sample's mean over its values under the mask, 0 where it has none; None unless a row is a sample.

    `keep` says which of the samples the rows are, if not all.
    """
    if not values.ndim or values.shape[0] != samples:
        return None
    if values.ndim > 1:
        counted = (
            values.new_full((), math.prod(values.shape[1:]))
            if mask is None
            else mask.expand_as(values).flatten(1).sum(1)
        )
        values = values.flatten(1).sum(1) / counted.clamp_min(1)
    return values if keep is None else values.new_zeros(len(keep)).masked_scatter(keep, values)
