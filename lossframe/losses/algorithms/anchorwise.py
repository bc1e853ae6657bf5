"""Evaluates losses over all pairs of a batch in O(N) memory, one block of anchors against all samples at a time.

The forward pass also computes the gradient of the sum of all values, block by block. If the reduction wants this
gradient, backward only multiplies it; if the reduction weighs the anchors, backward computes the blocks again. A
gradient that is to be differentiated again keeps all pairs in memory.
Ranks that hold the same batch each evaluate a part of the anchors, and add up the results; on a CPU so do threads.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lossframe import distributed
from lossframe.chunks import split
from lossframe.losses.algorithms import threads
from lossframe.losses.base.tracing import is_batch, is_traced

OfAnchors = Callable[[Tensor, Tensor, slice], tuple[Tensor, Tensor]]
"""Embeddings of some anchors `[B, D]`, of all samples `[N, D]`, and the anchors' rows -> sums `[B]`, numbers."""

BLOCK_BYTES, COLUMN_BYTES = 5 << 16, 320
"""Bytes of a block of pairs, and at least of each of its columns, because matrix products of few rows are slow."""
ANCHORS_PER_THREAD = 128
"""Anchors that make a thread worthwhile, per byte of a number: each thread holds a block and a gradient."""


def blocks(embeddings: Tensor, anchors: slice) -> list[slice]:
    """Split anchors so that a block of their pairs with all embeddings stays small; at least one block.

    All blocks but the last have one size, so that each reuses the memory of the one before.
    """
    n, number = max(len(embeddings), 1), max(anchors.stop - anchors.start, 1)
    size = max(BLOCK_BYTES // n // embeddings.itemsize, min(COLUMN_BYTES // embeddings.itemsize, n // 12))
    size = math.ceil(number / math.ceil(number / size))
    return [slice(k, min(k + size, anchors.stop)) for k in range(anchors.start, anchors.start + number, size)]


def anchorwise(of_anchors: OfAnchors, embeddings: Tensor, number: int | None = None) -> tuple[Tensor, Tensor]:
    """Return one value per anchor, scaled so that their mean is the sum of all sums over that of all numbers.

    The first `number` samples are anchors, by default all.

    `of_anchors` returns the sums `[B]` of some anchors, and without gradient the numbers `[B]` of their summands, or
    `[B, k]`, whose first column holds these numbers. The second result is the numbers of all anchors.
    """
    rows = slice(0, len(embeddings) if number is None else number)
    if is_traced(embeddings) or not rows.stop or _is_one_block(embeddings, rows):
        sums, numbers = of_anchors(embeddings if number is None else embeddings[rows], embeddings, rows)
        return (sums * _scale(numbers)).to(sums.dtype), numbers
    values, numbers = _Anchorwise.apply(embeddings, of_anchors, rows.stop)
    return values, numbers


def _is_one_block(embeddings: Tensor, anchors: slice) -> bool:
    return len(blocks(embeddings, anchors)) == 1 and not distributed.sharing()


class _Anchorwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, of_anchors: OfAnchors, number: int) -> tuple[Tensor, Tensor]:
        sums, numbers, gradient = _evaluate(of_anchors, embeddings, number, ctx.needs_input_grad[0])
        ctx.of_anchors, scale = of_anchors, _scale(numbers)
        ctx.save_for_backward(embeddings, gradient, scale)
        ctx.mark_non_differentiable(numbers)
        return (sums * scale).to(sums.dtype), numbers

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        embeddings, gradient, scale = ctx.saved_tensors
        if torch.is_grad_enabled() or is_batch(grad):
            return _plain_gradient(ctx.of_anchors, embeddings, grad * scale), None, None
        if grad.stride() == (0,):  # one number for all anchors: the gradient of a sum
            return gradient * (grad[0] * scale).to(gradient.dtype), None, None
        return _evaluate(ctx.of_anchors, embeddings, len(grad), True, grad * scale)[2], None, None


def _plain_gradient(of_anchors: OfAnchors, embeddings: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of the weighted sums, which can be differentiated again, or a batch of them for a batch."""
    gradient, again = torch.zeros_like(embeddings), torch.is_grad_enabled()
    for rows in blocks(embeddings, slice(0, len(weight))):
        with torch.enable_grad():
            sums, _ = of_anchors(embeddings[rows], embeddings, rows)
        upstream = weight[rows].to(sums.dtype)
        gradient = gradient + torch.autograd.grad(sums, embeddings, upstream, create_graph=again)[0]
    return gradient


def _evaluate(
    of_anchors: OfAnchors, embeddings: Tensor, n: int, with_gradient: bool, weight: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    mine = distributed.own_part(n)

    def share(anchors: slice) -> tuple[list[Tensor], Tensor]:
        gradient = torch.zeros_like(embeddings)
        everyones: list[Tensor] = []
        for rows in blocks(embeddings, anchors):
            found = _block(of_anchors, embeddings, rows, gradient if with_gradient else None, weight)
            # into one tensor: a small tensor kept of each block would fragment the memory that the next block reuses
            everyones = everyones or [part.new_empty(anchors.stop - anchors.start, *part.shape[1:]) for part in found]
            for whole, part in zip(everyones, found, strict=True):
                whole[rows.start - anchors.start : rows.stop - anchors.start] = part
        return everyones, gradient

    shares = threads.each(share, _shares(embeddings, mine))
    sums, numbers = (
        distributed.assembled(torch.cat(parts), mine, n) for parts in zip(*(parts for parts, _ in shares), strict=True)
    )
    gradient = functools.reduce(Tensor.add_, [part for _, part in shares])
    return sums, numbers, distributed.added_up(gradient) if with_gradient else gradient


def _shares(embeddings: Tensor, anchors: slice) -> list[slice]:
    """Split anchors among this process' threads."""
    worth = (anchors.stop - anchors.start) // (ANCHORS_PER_THREAD * embeddings.itemsize)
    return split(anchors, min(torch.get_num_threads(), worth) if embeddings.device.type == "cpu" else 1)


def _block(
    of_anchors: OfAnchors, embeddings: Tensor, rows: slice, gradient: Tensor | None, weight: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return sums and numbers of some anchors, and add their gradient to `gradient`; keep no other tensor."""
    if gradient is None:
        return of_anchors(embeddings[rows], embeddings, rows)
    anchors, others = embeddings[rows].detach().requires_grad_(), embeddings.detach().requires_grad_()
    with torch.enable_grad():
        sums, numbers = of_anchors(anchors, others, rows)
    upstream = torch.ones_like(sums) if weight is None else weight[rows].to(sums.dtype)
    of_rows, of_everyone = torch.autograd.grad(sums, (anchors, others), upstream)
    gradient += of_everyone
    gradient[rows] += of_rows
    return sums.detach(), numbers


def _scale(numbers: Tensor) -> Tensor:
    """Return the factor that makes the mean of the sums the total of the sums over the total of the numbers."""
    counted = numbers[:, 0] if numbers.ndim > 1 else numbers
    return len(numbers) / counted.double().sum().clamp_min(1)
