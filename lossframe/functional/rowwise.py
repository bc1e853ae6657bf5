"""Formulae with a value per row, whose gradient is computed along with the values, some rows at a time.

What is computed on the way reuses a little memory: a loss needs that of its values and of two gradients.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lossframe.functional.cutting import blocks

Formula = Callable[[Tensor, Tensor], Tensor]
"""Rows of scores `[n, ...]` and of a target -> values `[n]`, each of its row alone: operations for autograd."""
WithGradient = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""The same rows -> the values `[n]`, and the gradient `[n, ...]` of each by its row of scores."""


def rowwise(
    formula: Formula, scores: Tensor, target: Tensor, per_thread: int, with_gradient: WithGradient | None = None
) -> Tensor:
    """Return `formula(scores, target)`, `[N]`; each thread works on `per_thread` scores at a time.

    `with_gradient` must agree with the formula, and is quicker than what stands for it: autograd, block by block.
    """
    if torch.compiler.is_compiling() or target.requires_grad or len(blocks(scores, per_thread)) == 1:
        return formula(scores, target)
    values: Tensor = _Rowwise.apply(
        formula, with_gradient or partial(_by_autograd, formula), per_thread, scores, target
    )
    return values


class _Rowwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, formula: Formula, with_gradient: WithGradient, per_thread: int, scores: Tensor, target: Tensor
    ) -> Tensor:
        values = scores.new_empty(len(scores))
        gradient = torch.empty_like(scores) if ctx.needs_input_grad[3] else None
        for rows in blocks(scores, per_thread):
            if gradient is None:
                values[rows] = formula(scores[rows], target[rows])
            else:
                values[rows], gradient[rows] = with_gradient(scores[rows], target[rows])
        ctx.formula = formula
        ctx.save_for_backward(scores, target, gradient)
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, None, Tensor, None]:
        scores, target, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # for the gradient of the gradient
            values = ctx.formula(scores, target)
            return None, None, None, torch.autograd.grad(values, scores, grad, create_graph=True)[0], None
        return None, None, None, gradient * grad.reshape(-1, *[1] * (scores.ndim - 1)), None


def _by_autograd(formula: Formula, scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        leaf = scores.detach().requires_grad_()
        values = formula(leaf, target)
        (gradient,) = torch.autograd.grad(values, leaf, torch.ones_like(values))
    return values.detach(), gradient
