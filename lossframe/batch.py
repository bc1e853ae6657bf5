"""The inputs of one call of a loss: precision, ranks, and samples of weight 0. Pure functions."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lossframe import distributed
from lossframe.errors import InputError

_HALF = frozenset([torch.float16, torch.bfloat16])


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return half-precision tensors as float32, others as they are."""
    return tensor.float() if tensor.dtype in _HALF else tensor


def is_rounded(tensor: Tensor, moved: Tensor) -> bool:
    """Return whether a tensor was moved to half precision."""
    return moved.dtype in _HALF and tensor.dtype not in _HALF and tensor.is_floating_point()


def leaves(inputs: Collection[Any]) -> list[Tensor]:
    """Return the tensors among the inputs, also inside lists and dicts, in order."""
    found: list[Tensor] = []
    for value in inputs:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple, dict)):
            return [leaf for leaf in pytree.tree_leaves(list(inputs)) if isinstance(leaf, Tensor)]
    return found


def prepared(inputs: dict[str, Any], leaves: list[Tensor]) -> dict[str, Any]:
    """Return the inputs, whose `leaves` these are, with all tensors in at least float32."""
    if not _HALF.isdisjoint([leaf.dtype for leaf in leaves]):
        return pytree.tree_map_only(Tensor, at_least_float32, inputs)  # type: ignore[no-any-return]
    return inputs


def tensors(inputs: dict[str, Any]) -> list[Tensor]:
    """Return the tensors with a batch dimension, in the order of the inputs."""
    return [leaf for leaf in leaves(inputs.values()) if leaf.ndim]


def size(inputs: dict[str, Any]) -> int:
    """Return the number of samples: the length of the first batched tensor, 0 without one."""
    for leaf in leaves(inputs.values()):
        if leaf.ndim:
            return leaf.shape[0]
    return 0


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


def mask(weight: Tensor | None, counts: Tensor | None) -> Tensor | None:
    """Return which values count, of a weight that is aligned with them; None if all do."""
    weighs = None if weight is None else weight != 0
    if counts is None:
        return weighs
    return counts != 0 if weighs is None else weighs & (counts != 0)


def elementary(weighted: Tensor, counts: Tensor | None) -> Tensor:
    """Return the values to remember, one per elementary penalty."""
    return weighted if counts is None else weighted / counts.clamp_min(1)


def product(weight: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Multiply two weights, either of which may be missing."""
    if weight is None or other is None:
        return weight if other is None else other
    return weight * other


class Shield:
    """Stands before a loss's inputs: those of the values that do not count get a gradient of exactly 0.

    Without it a NaN in padding would reach every parameter, for backward multiplies it by 0.
    """

    def __init__(self) -> None:
        self._mask: Tensor | None = None

    def before(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the inputs, whose gradients pass through the shield."""
        return pytree.tree_map_only(Tensor, self._shielded, inputs)  # type: ignore[no-any-return]

    def cover(self, mask: Tensor | None, shape: torch.Size) -> None:
        """Let gradients pass only where the mask is true, which is aligned with values of this shape."""
        self._mask = None if mask is None else mask.expand(shape)

    def _shielded(self, tensor: Tensor) -> Tensor:
        if not (tensor.requires_grad and tensor.ndim and torch.is_grad_enabled()):
            return tensor
        view = tensor.view_as(tensor)
        view.register_hook(self._passed)
        return view

    def _passed(self, gradient: Tensor | None) -> Tensor | None:
        if gradient is None or self._mask is None:  # autograd gives None for a gradient that it knows to be 0
            return gradient
        mask = _along(self._mask, gradient.shape)
        return gradient if mask is None else torch.where(mask, gradient, 0)


def _along(mask: Tensor, shape: torch.Size) -> Tensor | None:
    """Return a mask of values so that it broadcasts to an input of this shape.

    The input has the values' dims and perhaps more behind them, or classes in dim 1; else its rows are those of the
    values. None if it has other rows.
    """
    if not mask.ndim or mask.shape[0] != shape[0]:
        return None
    if shape[: mask.ndim] == mask.shape:
        return mask.reshape(*mask.shape, *[1] * (len(shape) - mask.ndim))
    if shape[:1] + shape[2:] == mask.shape:
        return mask.unsqueeze(1)
    return mask.flatten(1).any(1).reshape(-1, *[1] * (len(shape) - 1))


def _is_batched(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim > 0
