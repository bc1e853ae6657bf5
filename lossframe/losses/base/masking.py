"""Keeps entries that do not count, because of weights or counts of 0, out of gradients and checks."""

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lossframe.errors import InputError
from lossframe.losses.base.inputs import Batch
from lossframe.losses.base.reduction import align

CoreDims = tuple[int, ...]
"""Dimensions of an input that one value reads as a whole, like the core dimensions of a NumPy gufunc."""


def shield(batch: Batch, core_dims: CoreDims | None) -> "Shield | None":
    """Return a `Shield` for a batch in which some values may not count, else None."""
    return Shield(core_dims) if batch.may_leave_out else None


class Shield:
    """Sets the gradients of a loss's inputs to 0 where no value counts, so that NaN in padding reaches no parameter.

    The gradient of a value that does not count is 0 times the formula's derivative, which is NaN where the derivative
    is not finite. For a loss that declares `core_dims`, the mask of the values gives a mask of the entries of each
    input, and the gradient of an entry that does not count is set to 0. For other losses, only non-finite gradients are
    set to 0, and only in samples without any value that counts. Finite gradients are correct already, even where the
    rows of an input are no samples, as those of a table.
    """

    def __init__(self, core_dims: CoreDims | None) -> None:
        self.core_dims = core_dims
        self._mask: Tensor | None = None

    def before(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the inputs as views whose gradients pass through this shield."""
        return pytree.tree_map_only(Tensor, self._shielded, inputs)  # type: ignore[no-any-return]

    def cover(self, mask: Tensor | None, shape: torch.Size) -> None:
        """Set which values of this shape count; None lets all gradients pass."""
        self._mask = None if mask is None else mask.expand(shape)

    def _shielded(self, tensor: Tensor) -> Tensor:
        """Return a view with a hook on its gradient; a tensor without a gradient is returned unchanged."""
        if not (tensor.requires_grad and tensor.ndim and torch.is_grad_enabled()):
            return tensor
        view = tensor.view_as(tensor)
        view.register_hook(self._passed)
        return view

    def _passed(self, gradient: Tensor | None) -> Tensor | None:
        """Return the gradient of an input with 0 where no value counts."""
        if gradient is None or self._mask is None:  # autograd gives None for a gradient that it knows to be 0
            return gradient
        mask = along_entries(self._mask, gradient.shape, self.core_dims)
        if mask is not None:
            return torch.where(mask, gradient, 0)
        mask = along_samples(self._mask, gradient.shape)
        return gradient if mask is None else torch.where(mask | gradient.isfinite(), gradient, 0)


def along_entries(mask: Tensor, shape: torch.Size, core_dims: CoreDims | None) -> Tensor | None:
    """Expand a mask of values to the entries of an input; None unless values lie along all dims outside `core_dims`."""
    if core_dims is None:
        return None
    core = {dim % len(shape) for dim in core_dims if -len(shape) <= dim < len(shape)}
    if [size for dim, size in enumerate(shape) if dim not in core] != list(mask.shape):
        return None
    for dim in sorted(core):
        mask = mask.unsqueeze(dim)
    return mask


def along_samples(mask: Tensor, shape: torch.Size) -> Tensor | None:
    """Reduce a mask of values to the samples of an input that have a value that counts; None if the lengths differ."""
    if not mask.ndim or not shape or mask.shape[0] != shape[0]:
        return None
    return _rows(mask).reshape(-1, *[1] * (len(shape) - 1))


def filled(batch: Batch, core_dims: CoreDims | None) -> dict[str, Any]:
    """Return the inputs of a batch, with an entry that counts copied over each entry that does not.

    Only floating inputs are filled, because a label must be valid even where it does not count.
    """

    def fill(tensor: Tensor) -> Tensor:
        core = range(1, tensor.ndim) if core_dims is None else sorted(dim % tensor.ndim for dim in core_dims)
        entries = tensor.movedim([*core], [*range(-len(core), 0)])
        shape = entries.shape[: tensor.ndim - len(core)]
        mask = _mask_of_shape(shape, batch.weight, batch.counts, core_dims is None)
        if mask is None or bool(mask.all()):
            return tensor
        flat, counted = entries.reshape(-1, *entries.shape[len(shape) :]), mask.reshape(-1)
        some = flat[counted.long().argmax()] if bool(counted.any()) else torch.full_like(flat[0], 0.5)
        flat = torch.where(counted.reshape(-1, *[1] * len(core)), flat, some)
        return flat.reshape(entries.shape).movedim([*range(-len(core), 0)], [*core])

    return pytree.tree_map_only(  # type: ignore[no-any-return]
        Tensor,
        lambda leaf: fill(leaf) if leaf.is_floating_point() and leaf.ndim and leaf.numel() else leaf,
        batch.inputs,
    )


def _mask_of_shape(
    shape: torch.Size, weight: Tensor | float | None, counts: Tensor | None, of_samples: bool
) -> Tensor | None:
    """Return which values of this shape count, before they are computed; None if weight or counts do not fit."""
    parts = [None if weight is None else torch.as_tensor(weight) != 0, None if counts is None else counts != 0]
    if of_samples:
        parts = [_rows(part) if part is not None and part.ndim else part for part in parts]
    mask = torch.ones(shape, dtype=torch.bool)
    for part in parts:
        if part is not None:
            try:
                mask = mask & align(part, mask).bool()
            except InputError:
                return None
    return mask


def _rows(mask: Tensor) -> Tensor:
    """Return which rows of a mask hold a true entry."""
    return mask.flatten(1).any(1) if mask.ndim > 1 else mask
