"""Sorting rows of floats along with their columns: as integers that hold both, on a CPU ten times as fast.

A float's bits, those of negative floats flipped, order as the float does. Above the column and perhaps a flag they
make an int64, so that a plain sort of integers, for which numpy has vector instructions, is all that is needed.
A float64 leaves no room for a column, and a flag replaces its last bit.
"""

import functools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

LAST = 0x7FFFFFFF << 32
"""A key above those of all numbers."""
BEHIND = (1 << 32) - 1
"""A column behind all others."""

_FLAG = 1 << 31
_MANY = 1 << 15
"""How many keys are worth waking other threads."""


def keys(x: Tensor, columns: Tensor, flags: Tensor | None = None) -> Tensor:
    """Return int64 in the order of float32 or float64 `x` of these columns; of equal numbers, flagged ones are last."""
    if x.dtype == torch.float64:
        bits = x.contiguous().view(torch.int64)
        bits = bits ^ (bits >> 63 & torch.iinfo(torch.int64).max)
        return bits if flags is None else bits.bitwise_and_(~1).add_(flags)
    bits = x.contiguous().view(torch.int32)
    bits = (bits >> 31).bitwise_and_(torch.iinfo(torch.int32).max).bitwise_xor_(bits)
    return torch.add(columns if flags is None else columns + flags * _FLAG, bits.long(), alpha=1 << 32)


def sort(keys: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Sort the rows of keys of that dtype, which are lost; return them and their columns."""
    if dtype == torch.float64:
        ordered, columns = keys.sort(1)
        return ordered, columns
    if keys.device.type == "cpu" and not torch.compiler.is_compiling():
        _sort(keys.numpy())
    else:
        keys = keys.sort(1).values
    return keys, keys & (_FLAG - 1)


def flagged(keys: Tensor, dtype: torch.dtype) -> Tensor:
    """Return which keys of that dtype carry the flag."""
    return keys & (1 if dtype == torch.float64 else _FLAG) != 0


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
