"""Counts the samples of a batch of any type."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from lossframe.errors import InputError
from lossframe.losses.base.inputs import leaves

_SIZES = ("num_graphs", "batch_size")
"""Attributes that hold the number of samples of an object, as PyTorch Geometric's batches have."""


def batch_size(batch: Any) -> int:
    """Return the number of samples of a batch: the length of an entry that is a tensor, or else of another entry.

    Entries that are lists of equal length list the samples, as in `([image, ...], [target, ...])`, unless all that they
    hold are tensors of one length, as of several views `[N, ...]`.
    """
    entries = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, (list, tuple)) else [batch]
    if (size := _size_of_lists(list(entries))) is not None:
        return size
    own = [entry for entry in entries if isinstance(entry, Tensor)]
    for leaf in [*own, *leaves(entries)] or pytree.tree_leaves(batch):
        if isinstance(leaf, Tensor) and leaf.ndim:
            return leaf.shape[0]
    if (size := _size_of_objects(batch)) is not None:
        return size
    raise InputError(
        f"LossMonitor: wanted a batch with a tensor of samples, found {type(batch).__name__}; say how many samples it "
        "has by LossMonitor(batch_size=...), a function of the batch"
    )


def _size_of_lists(entries: list[Any]) -> int | None:
    """Return the length of entries that list the samples of a batch one by one; None if they do not."""
    if not entries or not all(isinstance(entry, (list, tuple)) for entry in entries):
        return None
    items = [item for entry in entries for item in entry]
    rows = [len(item) if isinstance(item, Tensor) and item.ndim else None for item in items]
    lengths = {len(entry) for entry in entries}
    alike = None not in rows and len(set(rows)) == 1
    return lengths.pop() if len(lengths) == 1 and items and not alike else None


def _size_of_objects(batch: Any) -> int | None:
    """Return the length of the first tensor in a dataclass, else an object's attribute in `_SIZES`, else of a list."""
    opened = _opened(batch)
    found = pytree.tree_leaves(opened)
    rows = [leaf.shape[0] for leaf in found if isinstance(leaf, Tensor) and leaf.ndim]
    told = [size for leaf in found for name in _SIZES if type(size := getattr(leaf, name, None)) is int]
    entries = opened.values() if isinstance(opened, Mapping) else [opened]
    listed = [len(entry) for entry in entries if isinstance(entry, (list, tuple))]
    return next(iter(rows + told + listed), None)


def _opened(batch: Any) -> Any:
    """Replace the dataclasses in a batch by dicts of their fields."""

    def opened(leaf: Any) -> Any:
        if is_dataclass(leaf) and not isinstance(leaf, type):
            return _opened({field.name: getattr(leaf, field.name) for field in fields(leaf)})
        return leaf

    return pytree.tree_map(opened, batch)
