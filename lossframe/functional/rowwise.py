"""Formulae with a value per row, whose gradient is computed along with the values, some rows at a time.

What is computed on the way reuses a little memory: a loss needs that of its values and of its gradient.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lossframe.functional.cutting import blocks

Formula = Callable[[Tensor, Tensor], Tensor]
"""Rows of scores `[n, ...]` and of a target -> values `[n, ...]`, each of its row alone: operations for autograd."""
WithGradient = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The same rows -> the values; the gradient of each by its scores is written into the third, `[n, ...]`."""


def rowwise(formula: Formula, with_gradient: WithGradient, scores: Tensor, target: Tensor, per_thread: int) -> Tensor:
    """Return `formula(scores, target)`, `[N, ...]`; each thread works on `per_thread` scores at a time.

    `with_gradient` must agree with the formula.
    """
    if torch.compiler.is_compiling() or target.requires_grad or len(blocks(scores, per_thread)) == 1:
        return formula(scores, target)
    values: Tensor = _Rowwise.apply(formula, with_gradient, per_thread, scores, target)
    return values


class _Rowwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, formula: Formula, with_gradient: WithGradient, per_thread: int, scores: Tensor, target: Tensor
    ) -> Tensor:
        ctx.formula, ctx.with_gradient, ctx.per_thread, ctx.gradient = formula, with_gradient, per_thread, None
        ctx.save_for_backward(scores, target)
        if ctx.needs_input_grad[3]:
            values, ctx.gradient = _evaluate(with_gradient, per_thread, scores, target)
            return values
        return _gathered(lambda rows: formula(scores[rows], target[rows]), scores, per_thread)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, None, Tensor, None]:
        scores, target = ctx.saved_tensors
        if torch.is_grad_enabled():  # for the gradient of the gradient
            values = ctx.formula(scores, target)
            return None, None, None, torch.autograd.grad(values, scores, grad, create_graph=True)[0], None
        gradient, ctx.gradient = ctx.gradient, None  # handed out once; a second time it is computed again
        if gradient is None:
            _, gradient = _evaluate(ctx.with_gradient, ctx.per_thread, scores, target)
        return None, None, None, gradient.mul_(_along(grad, scores)), None


def _along(values: Tensor, scores: Tensor) -> Tensor:
    """Return values `[n, ...]` so that they multiply the rows of scores, whose dims beyond theirs follow the first."""
    return values.reshape(len(values), *[1] * (scores.ndim - values.ndim), *values.shape[1:])


def _evaluate(with_gradient: WithGradient, per_thread: int, scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    gradient = torch.empty_like(scores)
    values = _gathered(lambda rows: with_gradient(scores[rows], target[rows], gradient[rows]), scores, per_thread)
    return values, gradient


def _gathered(values_of: Callable[[slice], Tensor], scores: Tensor, per_thread: int) -> Tensor:
    """Return the values of all rows, each block's put into place: a list of them would hold them twice."""
    first, *others = blocks(scores, per_thread)
    part = values_of(first)
    values = part.new_empty(len(scores), *part.shape[1:])
    values[first] = part
    for rows in others:
        values[rows] = values_of(rows)
    return values
