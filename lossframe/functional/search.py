"""Binary search, faster where it waits for memory and branches: on a CPU."""

import torch
from torch import Tensor

_CELLS = 8
"""How many cells there are for each value that is searched."""


def count_not_above(ordered: Tensor, queries: Tensor) -> Tensor:
    """Return how many entries of a row of `ordered` `[B, P]` are <= each query of that row, `[B, N]`, as int64.

    Rows are sorted; -inf may come first, queries are finite. As `torch.searchsorted(ordered, queries, right=True)`.
    On a CPU most branches of a binary search are mispredicted. There, a row's range is cut into cells, so that only
    the few entries in a query's own cell are searched, without branches.
    """
    high = ordered[:, -1:].clamp_min(torch.finfo(ordered.dtype).min)
    if ordered.device.type != "cpu" or torch.compiler.is_compiling() or not _usable(queries, high):
        return torch.searchsorted(ordered, queries, right=True)
    low = torch.where(ordered.isfinite(), ordered, high).amin(1, keepdim=True)
    cells = _CELLS * ordered.shape[1]
    scale = cells / (high - low).clamp_min(1e-30)

    def cell(values: Tensor) -> Tensor:  # never decreases with the values, whatever the rounding
        return values.sub(low).mul_(scale).clamp_(0, cells - 1)

    held = torch.zeros(len(ordered), cells + 1, dtype=torch.int64)
    own = cell(ordered.clamp_min(low)).long()
    held[:, 1:].scatter_add_(1, own, torch.ones((), dtype=torch.int64).expand_as(own))
    found = cell(queries)
    counts = held.cumsum(1).gather(1, found.long())  # what lies in lower cells
    step = 1 << int(held.max()).bit_length() - 1
    padded = torch.nn.functional.pad(ordered, (0, step), value=torch.inf)
    while step:
        counts.add_(torch.gather(padded[:, step - 1 :], 1, counts, out=found) <= queries, alpha=step)
        step //= 2
    return counts


def _usable(*tensors: Tensor) -> bool:
    return all(tensor.numel() and bool(tensor.sum().isfinite()) for tensor in tensors)
