"""Evaluates formulas with a value per row, and their gradients along with the values, some rows at a time.

Intermediate results reuse a small piece of memory, so that a loss only needs memory for its values and its gradient.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lossframe.chunks import blocks, split
from lossframe.losses.algorithms import threads
from lossframe.losses.base.tracing import is_batch, is_traced

Formula = Callable[[Tensor, Tensor], Tensor]
"""Rows of scores `[n, ...]` and of a target -> values `[n, ...]`, each of one row, by operations of autograd."""
WithGradient = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The same rows -> the values; writes the gradient of each value by its scores into the third tensor."""

BLOCKS_PER_THREAD = 3
"""Blocks per thread from which threads that each take some rows are faster than threads that share each operation."""


def rowwise(
    formula: Formula, with_gradient: WithGradient, scores: Tensor, target: Tensor, shape: torch.Size, per_thread: int
) -> Tensor:
    """Return `formula(scores, target)`, of a shape `[N, ...]`; each thread works on `per_thread` scores at a time.

    `with_gradient` must agree with the formula. A first backward pass reads neither scores nor target, which may have
    changed since; a second one, and one that is differentiated again, reads both.
    """
    if is_traced(scores) or target.requires_grad or len(blocks(scores, per_thread)) == 1:
        return formula(scores, target)
    values: Tensor = _Rowwise.apply(formula, with_gradient, scores, target, shape, per_thread)
    return values


class _Rowwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        formula: Formula,
        with_gradient: WithGradient,
        scores: Tensor,
        target: Tensor,
        shape: torch.Size,
        per_thread: int,
    ) -> Tensor:
        ctx.formula, ctx.with_gradient, ctx.per_thread, ctx.gradient = formula, with_gradient, per_thread, None
        ctx.save_for_backward(scores, target)
        values = scores.new_empty(shape)
        if ctx.needs_input_grad[2]:
            ctx.gradient = _evaluate(with_gradient, scores, target, values, per_thread)
        else:
            _put(values, lambda rows: formula(scores[rows], target[rows]), scores, per_thread)
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, Tensor, None, None, None]:
        if torch.is_grad_enabled():  # for the gradient of the gradient
            scores, target = ctx.saved_tensors
            values = ctx.formula(scores, target)
            return None, None, torch.autograd.grad(values, scores, grad, create_graph=True)[0], None, None, None
        gradient = ctx.gradient
        if gradient is None:
            scores, target = ctx.saved_tensors
            gradient = _evaluate(ctx.with_gradient, scores, target, scores.new_empty(grad.shape), ctx.per_thread)
        upstream = _along(grad, gradient)
        if is_batch(grad):
            ctx.gradient = gradient
            return None, None, gradient * upstream, None, None, None
        ctx.gradient = None  # handed out once; a second time it is computed again
        return None, None, gradient.mul_(upstream), None, None, None


def _along(values: Tensor, scores: Tensor) -> Tensor:
    """Reshape values `[n, ...]` to broadcast against the rows of scores, whose additional dims follow the first."""
    return values.reshape(len(values), *[1] * (scores.ndim - values.ndim), *values.shape[1:])


def _evaluate(with_gradient: WithGradient, scores: Tensor, target: Tensor, values: Tensor, per_thread: int) -> Tensor:
    """Write the values into `values`, and return the gradient."""
    gradient = torch.empty_like(scores)
    _put(values, lambda rows: with_gradient(scores[rows], target[rows], gradient[rows]), scores, per_thread)
    return gradient


def _put(values: Tensor, values_of: Callable[[slice], Tensor], scores: Tensor, per_thread: int) -> None:
    """Write the values of all rows; of many rows on a CPU, each thread writes a part."""

    def share(rows: slice) -> None:
        for block in blocks(scores[rows], per_thread):
            mine = slice(rows.start + block.start, rows.start + block.stop)
            values[mine] = values_of(mine)

    number = torch.get_num_threads() if scores.device.type == "cpu" else 1
    worth = min(len(scores), scores.numel() // (BLOCKS_PER_THREAD * per_thread)) >= number
    threads.each(share, split(slice(0, len(scores)), number if worth else 1))
