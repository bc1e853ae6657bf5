"""The softmax at a target's class, in the memory of a gradient: of the other classes nothing is kept."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lossframe.functional.cutting import blocks

_PER_THREAD = 1 << 19
"""How many scores each thread works on at a time: few enough to reuse memory, many enough to seldom wait."""
_LANES = 16
"""How many classes fill a vector register; torch is slow for rows that are shorter."""
_MANY = 1 << 10
"""How many short rows are worth turning."""


def log_probability(scores: Tensor, target: Tensor) -> Tensor:
    r"""Return $\log \mathrm{softmax}(z)_t$ of scores `[N, C, ...]` at class indices `[N, ...]`, as `[N, ...]`.

    Forward keeps nothing but its inputs; backward computes the softmax again, block by block.
    """
    if torch.compiler.is_compiling():
        return _at_target(F.log_softmax(scores, 1), target)
    if len(blocks(scores, _PER_THREAD)) == 1:
        return _at_target(_by_class(F.log_softmax, scores), target)
    values: Tensor = _LogProbability.apply(scores, target)
    return values


def _at_target(values: Tensor, target: Tensor) -> Tensor:
    return values.gather(1, target.unsqueeze(1)).squeeze(1)


def _by_class(softmax: Callable[[Tensor, int], Tensor], scores: Tensor) -> Tensor:
    """Return the softmax over dim 1, or its logarithm; many short rows on a CPU are turned into columns."""
    if scores.ndim == 2 and scores.shape[1] < _LANES and len(scores) > _MANY and scores.device.type == "cpu":
        return softmax(scores.t().contiguous(), 0).t()
    return softmax(scores, 1)


class _LogProbability(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(scores, target)
        values = scores.new_empty(target.shape)
        for rows in blocks(scores, _PER_THREAD):
            values[rows] = _at_target(_by_class(F.log_softmax, scores[rows]), target[rows])
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        scores, target = ctx.saved_tensors
        if torch.is_grad_enabled():  # for the gradient of the gradient
            values = _at_target(F.log_softmax(scores, 1), target)
            return torch.autograd.grad(values, scores, grad, create_graph=True)[0], None
        gradient = torch.empty_like(scores)
        for rows in blocks(scores, _PER_THREAD):
            upstream = grad[rows].unsqueeze(1)
            p = _by_class(F.softmax, scores[rows]).mul_(-upstream)
            gradient[rows] = p.scatter_add_(1, target[rows].unsqueeze(1), upstream)
        return gradient, None
