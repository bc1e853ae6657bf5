"""Sums and gathers tensors over ranks with uneven shards, with the gradient that one process would compute."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from lossframe.distributed.group import rank, world_size
from lossframe.errors import InputError

_MAX_DIMS = 8


class _Total(torch.autograd.Function):
    """Sums a tensor over the ranks; passes the gradient back, times the number of ranks."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        result = local.detach().clone()
        dist.all_reduce(result)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * world_size()


def total(local: Tensor) -> Tensor:
    """Sum a tensor over all ranks; the gradient of the local tensor is that of the sum, times the number of ranks.

    Data parallelism averages the gradients of the ranks. The factor turns this average into the sum, which is the
    gradient that one process would compute on the concatenated batch.
    """
    if world_size() == 1:
        return local
    result: Tensor = _Total.apply(local)
    return result


class _Gather(torch.autograd.Function):
    """Concatenates rows of all ranks; passes the gradient of the local rows back, times the number of ranks."""

    @staticmethod
    def forward(ctx: Any, local: Tensor, pieces: list[Tensor]) -> Tensor:
        ctx.start = sum(piece.shape[0] for piece in pieces[: rank()])
        ctx.length = local.shape[0]
        return torch.cat(pieces)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.narrow(0, ctx.start, ctx.length) * world_size(), None


def gather(tensors: list[Tensor]) -> tuple[list[Tensor], slice]:
    """Concatenate every tensor along dim 0 over all ranks, in rank order; shards may be uneven or empty.

    Every rank gets the same result, and the slice of its own rows in the first tensor. The gradient reaches the local
    rows only, times the number of ranks (see `total`). Any number of tensors takes two collectives: one for the shapes,
    and one for all tensors in one buffer. Dtypes or trailing shapes that differ are an `InputError` on every rank.
    """
    if world_size() == 1 or not tensors:
        return tensors, slice(None)
    shapes, differentiable = _exchange_shapes(tensors)
    local = torch.cat([_as_bytes(tensor.detach()) for tensor in tensors])
    sizes = [sum(_byte_size(s, t) for s, t in zip(row, tensors, strict=True)) for row in shapes]
    buffers = _all_gather_uneven(local, sizes)
    pieces = [_split(buffer, row, tensors) for buffer, row in zip(buffers, shapes, strict=True)]
    gathered = [
        _Gather.apply(_with_gradient(tensor), list(parts)) if wanted else torch.cat(parts)
        for tensor, parts, wanted in zip(tensors, zip(*pieces, strict=True), differentiable, strict=True)
    ]
    start = sum(row[0][0] for row in shapes[: rank()])
    return gathered, slice(start, start + len(tensors[0]))


def _with_gradient(tensor: Tensor) -> Tensor:
    """Return a tensor that requires a gradient, because rows of another rank do and all ranks must do the same work."""
    return tensor if tensor.requires_grad else tensor.detach().requires_grad_()


def _exchange_shapes(tensors: list[Tensor]) -> tuple[list[list[tuple[int, ...]]], list[bool]]:
    """Return the shapes of the tensors on all ranks, and which tensors need a gradient on any rank."""
    for tensor in tensors:
        if tensor.dtype not in _DTYPES or tensor.ndim > _MAX_DIMS:
            known = ", ".join(map(str, _DTYPES))
            found = f"{tensor.dtype} {list(tensor.shape)}"
            raise InputError(f"wanted tensors of at most {_MAX_DIMS} dims of {known} to gather, found {found}")
    header = torch.full((len(tensors), _MAX_DIMS + 3), -1, dtype=torch.int64)
    for row, tensor in zip(header, tensors, strict=True):
        row[0], row[1] = tensor.ndim, _DTYPES.index(tensor.dtype)
        row[2 : 2 + tensor.ndim] = torch.tensor(tensor.shape)
        row[-1] = tensor.requires_grad and torch.is_grad_enabled()
    header = header.to(tensors[0].device)
    everyone = [torch.empty_like(header) for _ in range(world_size())]
    dist.all_gather(everyone, header)
    rows: list[list[list[int]]] = torch.stack(everyone).tolist()
    layouts = {tuple((r[0], r[1], *r[3 : 2 + r[0]]) for r in per_rank) for per_rank in rows}
    if len(layouts) > 1:
        raise InputError(
            "the ranks disagree about what to gather (rank, dtype, trailing shape): "
            + "; ".join(f"rank {k}: {[tuple(r[2 : 2 + r[0]]) for r in per]}" for k, per in enumerate(rows))
        )
    differentiable = [any(flags) for flags in zip(*([r[-1] for r in per_rank] for per_rank in rows), strict=True)]
    return [[tuple(r[2 : 2 + r[0]]) for r in per_rank] for per_rank in rows], differentiable


_DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
]  # fmt: skip


def _as_bytes(tensor: Tensor) -> Tensor:
    """Return the memory of a tensor as a vector of bytes."""
    flat = tensor.reshape(-1)
    if flat.stride(0) != 1:  # torch calls a single row of a column contiguous
        flat = torch.empty(flat.shape, dtype=flat.dtype, device=flat.device).copy_(flat)
    return flat.view(torch.uint8)


def _byte_size(shape: tuple[int, ...], like: Tensor) -> int:
    return torch.Size(shape).numel() * like.element_size()


def _all_gather_uneven(local: Tensor, sizes: list[int]) -> list[Tensor]:
    """Gather byte vectors of known, different lengths, padded to the longest."""
    padded = torch.zeros(max(*sizes, 1), dtype=torch.uint8, device=local.device)
    padded[: local.numel()] = local
    everyone = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(everyone, padded)
    return [buffer[:size] for buffer, size in zip(everyone, sizes, strict=True)]


def _split(buffer: Tensor, shapes: list[tuple[int, ...]], like: list[Tensor]) -> list[Tensor]:
    """Cut a buffer of bytes into tensors of these shapes, with the dtypes of `like`."""
    lengths = [_byte_size(shape, tensor) for shape, tensor in zip(shapes, like, strict=True)]
    parts = buffer.split(lengths)
    return [
        # a copy per tensor: its bytes may start anywhere in the buffer, and a wider dtype must be aligned
        part.clone().view(tensor.dtype).reshape(shape)
        for part, shape, tensor in zip(parts, shapes, like, strict=True)
    ]
