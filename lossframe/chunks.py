"""How large tensors are cut, so that what is computed on the way to a value stays in the cache."""

from itertools import pairwise

import torch
from torch import Tensor

_ON_DEVICE = 1 << 26
"""How many elements are worked on at a time where there is no cache to stay in: it bounds the memory."""


def blocks(tensor: Tensor, per_thread: int) -> list[slice]:
    """Cut the rows, dim 0, so that blocks of the tensor have few elements for each thread; at least one slice."""
    rows = len(tensor)
    elements = per_thread * torch.get_num_threads() if tensor.device.type == "cpu" else _ON_DEVICE
    step = max(1, elements * rows // max(tensor.numel(), 1))
    return [slice(start, min(start + step, rows)) for start in range(0, max(rows, 1), step)]


def split(rows: slice, number: int) -> list[slice]:
    """Split rows into so many parts, at least one, that differ by a row at most."""
    ends = [rows.start + (rows.stop - rows.start) * k // max(number, 1) for k in range(max(number, 1) + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]
