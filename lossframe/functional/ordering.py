"""Sorting rows of floats along with their columns: as integers that hold both, on a CPU ten times as fast.

A float's bits, those of negative floats flipped, order as the float does. Above the column and one flag of one's own
they make an int64, so that a plain sort of integers, for which numpy has vector instructions, is all that is needed.
A float64 leaves no room for a column, and the flag replaces its last bit.
"""

import functools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

LAST = 0x7FFFFFFF << 32
"""A key above those of all numbers."""

_FLAG = 1 << 31
_MANY = 1 << 15
"""How many keys are worth waking other threads."""


def keys(x: Tensor, columns: Tensor, flagged: bool | Tensor) -> Tensor:
    """Return int64 in the order of float32 or float64 `x` of these columns; of equal numbers, flagged ones are last."""
    if x.dtype == torch.float64:
        bits = x.contiguous().view(torch.int64)
        return (bits ^ (bits >> 63 & torch.iinfo(torch.int64).max)).bitwise_and_(~1).add_(flagged)
    bits = x.contiguous().view(torch.int32)
    bits = (bits >> 31).bitwise_and_(torch.iinfo(torch.int32).max).bitwise_xor_(bits)
    return torch.add(columns + flagged * _FLAG, bits.long(), alpha=1 << 32)


def sort(keys: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Sort the rows of keys of that dtype, which are lost; return them, their columns, and -1 where flagged, or 0."""
    if dtype == torch.float64:
        ordered, columns = keys.sort(1)
        return ordered, columns, -(ordered & 1).int()
    if keys.device.type == "cpu" and not torch.compiler.is_compiling():
        _sort(keys.numpy())
    else:
        keys = keys.sort(1).values
    return keys, keys & (_FLAG - 1), keys.int().bitwise_right_shift_(31)  # int() keeps the lower half


def _sort(rows: np.ndarray) -> None:
    """Sort rows in place, many with as many threads as torch has."""
    threads = min(torch.get_num_threads(), len(rows))
    if threads == 1 or rows.size < _MANY:
        rows.sort(axis=1)
    else:
        mine, *others = np.array_split(rows, threads)
        tasks = [_pool(os.getpid()).submit(part.sort, axis=1) for part in others]
        mine.sort(axis=1)
        for task in tasks:
            task.result()


@functools.cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Return threads of this process: those of one that forked are not in its children."""
    return ThreadPoolExecutor(thread_name_prefix="lossframe-sort")
