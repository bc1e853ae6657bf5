"""Tells optional terms that are not in a batch from those that are, on all ranks, and leaves terms out."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from lossframe import distributed
from lossframe.losses.base.inputs import first_batched
from lossframe.losses.base.loss import Loss
from lossframe.objectives.wiring import Frame, entries, is_required

_CAPACITY = 4096
"""Number of bytes that a description of entries takes, as a rule."""


def needed(loss: Loss, wired: Mapping[str, str]) -> list[str]:
    """Return the entries of the frame without which a loss has no value."""
    return [entry for parameter, entry in wired.items() if is_required(loss, parameter, entry)]


def there(loss: Loss, wired: Mapping[str, str], frame: Frame) -> bool:
    """Return whether this rank's frame holds all that a loss needs; None is nothing."""
    return all(frame.get(entry) is not None for entry in needed(loss, wired))


def inputs_of(terms: Mapping[str, tuple[Loss, Mapping[str, str]]], frame: Frame) -> dict[str, dict[str, Any]]:
    """Return the inputs of those optional terms that any rank's frame holds, by term; all ranks get the same terms.

    Takes one collective on several ranks. A rank without a term takes part with no sample: its inputs are empty, of
    the dtypes and shapes that the others have.
    """
    found = {name: entries(loss, wired, frame) for name, (loss, wired) in terms.items() if there(loss, wired, frame)}
    if not terms or distributed.world_size() == 1:
        return found
    described = {name: {p: _layout(value) for p, value in read.items()} for name, read in found.items()}
    everyone = distributed.exchange(described, _CAPACITY, distributed.collective_device())
    layouts = {name: layout for ranks in everyone for name, layout in ranks.items()}
    return {
        name: found[name] if name in found else _nothing(layouts[name], terms[name][1], frame)
        for name in terms
        if name in layouts
    }


def _layout(value: Any) -> tuple[torch.dtype, tuple[int, ...] | None] | None:
    """Describe an input: dtype, and the shape of one sample or None for a single number; None if it is no tensor."""
    if not isinstance(value, Tensor):
        return None
    return value.dtype, tuple(value.shape[1:]) if value.ndim else None


def _nothing(layout: Mapping[str, Any], wired: Mapping[str, str], frame: Frame) -> dict[str, Any]:
    """Return inputs without samples; those that this rank has keep their graph."""
    device = next((value.device for value in frame.values() if isinstance(value, Tensor)), None)
    read: dict[str, Any] = {}
    for parameter, described in layout.items():
        own = frame.get(wired.get(parameter, parameter))
        if described is None:
            continue
        dtype, shape = described
        if isinstance(own, Tensor) and own.ndim:
            read[parameter] = own[:0]
        else:
            size = () if shape is None else (0, *shape)
            read[parameter] = torch.zeros(size, dtype=dtype, device=device)
    if first_batched(read) is None:
        read["count"] = 0.0
    return read


def connected(frame: Frame, wired: Iterable[str]) -> Tensor | None:
    """Return a zero that reaches the parameters behind the entries of a term that is left out; None without any.

    Data parallelism refuses parameters without a gradient.
    """
    present = [frame.get(entry) for entry in wired]
    behind = [e for e in present if isinstance(e, Tensor) and e.requires_grad]
    return torch.stack([absent(entry.sum()) for entry in behind]).sum() if behind else None


def absent(value: Tensor) -> Tensor:
    """Return a zero in place of a term's value, with a gradient of exactly 0 for every parameter that it depends on.

    Data parallelism refuses parameters without a gradient. The zero is connected to the parameters themselves: on the
    way through the model a gradient of 0 becomes NaN where a derivative is not finite.
    """
    if not value.requires_grad:
        return torch.zeros_like(value)
    empty = [leaf.reshape(-1)[:0].sum().to(value.dtype) for leaf in _graph_leaves(value)]
    return torch.stack([torch.zeros_like(value), *empty]).sum()


def _graph_leaves(value: Tensor) -> list[Tensor]:
    """Return the leaf tensors that a value depends on with gradient."""
    leaves: dict[int, Tensor] = {}
    nodes, seen = [value.grad_fn], {value.grad_fn}
    while nodes:
        node: Any = nodes.pop()
        if (leaf := getattr(node, "variable", None)) is not None:
            leaves[id(leaf)] = leaf
        following = {other for other, _ in getattr(node, "next_functions", ()) if other is not None} - seen
        seen |= following
        nodes += following
    return list(leaves.values()) if value.grad_fn is not None else [value]
