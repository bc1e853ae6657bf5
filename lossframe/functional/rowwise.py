"""Formulae with a value per row, whose gradient is computed along with the values, some rows at a time.

What is computed on the way reuses a little memory: a loss needs that of its values and of two gradients.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lossframe.functional.chunks import by_rows, chunks

Formula = Callable[[Tensor, Tensor], Tensor]
"""Rows of scores `[n, ...]` and of a target -> values `[n]`, each of its row alone: operations for autograd."""
WithGradient = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The same rows -> the values `[n]`; the gradient of each by its row of scores is written into the third, `[n, ...]`."""


def rowwise(formula: Formula, with_gradient: WithGradient, scores: Tensor, target: Tensor) -> Tensor:
    """Return `formula(scores, target)`, `[N]`; `with_gradient` must agree with the formula."""
    if target.requires_grad or len(chunks(scores)) == 1:
        return formula(scores, target)
    values: Tensor = _Rowwise.apply(formula, with_gradient, scores, target)
    return values


class _Rowwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, formula: Formula, with_gradient: WithGradient, scores: Tensor, target: Tensor) -> Tensor:
        values = scores.new_empty(len(scores))
        gradient = torch.empty_like(scores) if ctx.needs_input_grad[2] else None

        def evaluate(rows: slice) -> None:
            if gradient is None:
                values[rows] = formula(scores[rows], target[rows])
            else:
                values[rows] = with_gradient(scores[rows], target[rows], gradient[rows])

        by_rows(evaluate, scores)
        ctx.formula = formula
        ctx.save_for_backward(scores, target, gradient)
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, Tensor, None]:
        scores, target, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # for the gradient of the gradient
            values = ctx.formula(scores, target)
            return None, None, torch.autograd.grad(values, scores, grad, create_graph=True)[0], None
        return None, None, gradient * grad.reshape(-1, *[1] * (scores.ndim - 1)), None
