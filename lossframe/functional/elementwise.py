"""Formulae with a value per element, whose slopes are computed along with the values, some elements at a time.

What is computed on the way reuses a little memory: a loss needs that of its values, slopes and gradient.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lossframe.functional.cutting import blocks

Formula = Callable[[Tensor, Tensor], Tensor]
"""Scores and targets of one shape -> the values: plain operations, which autograd differentiates."""
WithSlopes = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Scores and targets of one shape -> the values, and their derivatives by the scores."""

_PER_THREAD = 1 << 17


def elementwise(formula: Formula, with_slopes: WithSlopes, scores: Tensor, target: Tensor) -> Tensor:
    """Return `formula(scores, target)`; where there are many, by `with_slopes`, which must agree with it."""
    if torch.compiler.is_compiling() or target.requires_grad or len(blocks(scores.reshape(-1), _PER_THREAD)) == 1:
        return formula(scores, target)
    values: Tensor = _Elementwise.apply(formula, with_slopes, scores, target)
    return values


class _Elementwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, formula: Formula, with_slopes: WithSlopes, scores: Tensor, target: Tensor) -> Tensor:
        x, y = scores.reshape(-1), target.reshape(-1)
        values, slopes = torch.empty_like(x), torch.empty_like(x) if ctx.needs_input_grad[2] else None
        for part in blocks(x, _PER_THREAD):
            if slopes is None:
                values[part] = formula(x[part], y[part])
            else:
                values[part], slopes[part] = with_slopes(x[part], y[part])
        ctx.formula = formula
        ctx.save_for_backward(scores, target, slopes)
        return values.view(scores.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, Tensor, None]:
        scores, target, slopes = ctx.saved_tensors
        if torch.is_grad_enabled():  # for the gradient of the gradient
            values = ctx.formula(scores, target)
            return None, None, torch.autograd.grad(values, scores, grad, create_graph=True)[0], None
        return None, None, slopes.view(scores.shape) * grad, None
