"""Shares the work of a function that all ranks evaluate on the same inputs."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.distributed as dist
from torch import Tensor

from lossframe.distributed.group import rank, world_size

_sharing: ContextVar[bool] = ContextVar("sharing", default=False)


@contextmanager
def same_inputs() -> Iterator[None]:
    """Declare that all ranks evaluate the same function of the same tensors, so that they may share its work."""
    token = _sharing.set(world_size() > 1)
    try:
        yield
    finally:
        _sharing.reset(token)


def sharing() -> bool:
    """Return whether the ranks share the work of the current function."""
    return not torch.compiler.is_compiling() and _sharing.get()


def own_part(n: int) -> slice:
    """Return the slice of `n` rows that this rank evaluates; all rows without sharing."""
    if not sharing():
        return slice(0, n)
    return slice(n * rank() // world_size(), n * (rank() + 1) // world_size())


def assembled(part: Tensor, rows: slice, n: int) -> Tensor:
    """Return all `n` rows on every rank, assembled from the slice `rows` of each rank; without gradient."""
    if not sharing():
        return part
    summable = part.to(torch.uint8) if part.dtype == torch.bool else part
    everyone = summable.new_zeros(n, *part.shape[1:])
    everyone[rows] = summable
    return added_up(everyone).to(part.dtype)


def added_up(part: Tensor) -> Tensor:
    """Return the sum of the parts of all ranks, without gradient; the part itself without sharing."""
    if sharing():
        dist.all_reduce(part)
    return part
