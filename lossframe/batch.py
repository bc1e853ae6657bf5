"""The inputs of one call of a loss: precision, ranks, and samples of weight 0. Pure functions."""

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lossframe import distributed
from lossframe.errors import InputError

_HALF = (torch.float16, torch.bfloat16)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return half-precision tensors as float32, others as they are."""
    return tensor.float() if tensor.dtype in _HALF else tensor


def tensors(inputs: Any) -> list[Tensor]:
    """Return the tensors with a batch dimension, in the order of the inputs."""
    return [leaf for leaf in pytree.tree_leaves(inputs) if _is_batched(leaf)]


def size(inputs: dict[str, Any]) -> int:
    """Return the number of samples: the length of the first batched tensor, 0 without one."""
    return next((len(tensor) for tensor in tensors(inputs)), 0)


def sums_of_samples(inputs: dict[str, Any]) -> Tensor | None:
    """Return the sum `[N]` of each sample's floating inputs, which is finite where they are; None without any."""
    sums = [
        tensor.detach().flatten(1).sum(1) if tensor.ndim > 1 else tensor.detach()
        for tensor in tensors(inputs)
        if tensor.is_floating_point() and len(tensor) == size(inputs)
    ]
    return torch.stack(sums).sum(0) if sums else None


def gather(inputs: dict[str, Any], weight: Tensor | float | None) -> tuple[dict[str, Any], Any, slice]:
    """Concatenate every batched tensor over the ranks; also say which samples are this rank's."""
    leaves, structure = pytree.tree_flatten((inputs, weight))
    gathered, own = distributed.gather([leaf for leaf in leaves if _is_batched(leaf)])
    whole = iter(gathered)
    result = pytree.tree_unflatten([next(whole) if _is_batched(leaf) else leaf for leaf in leaves], structure)
    return result[0], result[1], own


def weight_of_samples(inputs: dict[str, Any], weight: Tensor) -> Tensor:
    """Return the weight as `[N]`; a relational loss knows no finer one."""
    sizes = {len(tensor) for tensor in tensors(inputs)}
    if weight.shape == (1,) and len(sizes) == 1:
        return weight.expand(next(iter(sizes)))
    if sizes != {len(weight)} or weight.numel() != len(weight):
        found = " and ".join(str(list(tensor.shape)) for tensor in tensors(inputs))
        raise InputError(f"wanted a scalar weight or one per sample, found {list(weight.shape)} for inputs {found}")
    return weight.reshape(-1)


def leave_out(inputs: dict[str, Any], weight: Tensor) -> tuple[dict[str, Any], Tensor, Tensor]:
    """Drop the samples whose weight is 0, so that they are no one's partner either; also say which are kept."""
    keep = weight != 0
    kept: dict[str, Any] = pytree.tree_map(lambda leaf: leaf[keep] if _is_batched(leaf) else leaf, inputs)
    return kept, weight[keep], keep


def of_samples(values: Tensor, mask: Tensor | None, keep: Tensor | None, samples: int) -> Tensor | None:
    """Return each sample's mean over its values under the mask, 0 where it has none; None unless a row is a sample.

    `keep` says which of the samples the rows are, if not all.
    """
    if not values.ndim or len(values) != samples:
        return None
    if values.ndim > 1:
        counted = values.new_full((), values[0].numel()) if mask is None else mask.expand_as(values).flatten(1).sum(1)
        values = values.flatten(1).sum(1) / counted.clamp_min(1)
    return values if keep is None else values.new_zeros(len(keep)).masked_scatter(keep, values)


def weight_of_values(values: Tensor, weight: Tensor) -> Tensor | None:
    """Return the weights of the values; one value for the whole batch only knows samples in and out."""
    if values.ndim and len(values) == len(weight):
        return weight
    if bool((weight == 1).all()):
        return None
    raise InputError("gives one value for the whole batch: a sample's weight can only be 0 or 1, found others")


def counted(values: Tensor, counts: Tensor | None) -> Tensor:
    """Return the values, 0 where a value stands for nothing."""
    return values if counts is None else torch.where(counts.bool(), values, 0)


def product(weight: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Multiply two weights, either of which may be missing."""
    if weight is None or other is None:
        return weight if other is None else other
    return weight * other


def _is_batched(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim > 0
