"""Targets and parameters that belong to the classes on dim 1."""

import math

import torch
from torch import Tensor

from lossframe.losses.base.tracing import is_readable

CERTAIN = 1e3
"""Beyond this logit, or logarithm of a probability, exp() is 0 in every dtype, and so is the slope of a power of it."""


def indices(scores: Tensor, target: Tensor) -> Tensor:
    """Return integer targets as int64 `[N, ...]`; `[N, 1]` is squeezed where scores are `[N, C]`."""
    return (target.squeeze(1) if target.ndim == scores.ndim else target).long()


def ignored(target: Tensor, index: int) -> Tensor | None:
    """Return which indices stand for nothing; `None` if there are none, which is looked up on a CPU alone."""
    if target.numel() and is_readable(target):
        lowest, highest = target.aminmax()
        if index < lowest or index > highest:
            return None
    return target == index


def without_ignored(scores: Tensor, target: Tensor, index: int) -> tuple[Tensor, Tensor | None]:
    """Return integer targets as `indices` does, with 0 for each ignored one, and which are ignored, `None` for none."""
    target = indices(scores, target)
    without = ignored(target, index)
    return (target, None) if without is None else (target.masked_fill(without, 0), without)


def counted(scores: Tensor, target: Tensor, index: int) -> Tensor | None:
    """Return which integer targets count, `None` if all do, as floating targets always do."""
    if target.is_floating_point():
        return None
    without = ignored(indices(scores, target), index)
    return None if without is None else ~without


def probabilities(scores: Tensor, target: Tensor) -> Tensor:
    """Return the target as probabilities of the shape and dtype of the scores: indices become one-hot."""
    if target.is_floating_point():
        return target.to(scores.dtype)
    return torch.zeros_like(scores).scatter(1, indices(scores, target).unsqueeze(1), 1.0)


def expected(values: Tensor, target: Tensor) -> Tensor:
    r"""Return $\sum_c y_c v_c$ of values `[N, C, ...]`, as `[N, ...]`: for indices, the value of the target's class."""
    if target.is_floating_point():
        return (target.to(values.dtype) * values).sum(1)
    return values.gather(1, indices(values, target).unsqueeze(1)).squeeze(1)


def along(numbers: Tensor, like: Tensor) -> Tensor:
    """Return one number, or one per class, so that it multiplies `[N, C, ...]`."""
    numbers = numbers.to(like.dtype)
    return numbers.reshape(-1, *[1] * (like.ndim - 2)) if numbers.ndim else numbers


def fading(log_p: Tensor, gamma: float) -> Tensor:
    r"""Return $(1 - p)^\gamma$ of $\log p$, with finite first and second slopes for every $\gamma \ge 0$."""
    return log_p.clamp(-CERTAIN, -lowest(log_p.dtype)).expm1().neg().pow(gamma)


def lowest(dtype: torch.dtype) -> float:
    r"""Return what counts as the lowest probability of being wrong: its power -2 is finite."""
    return math.sqrt(torch.finfo(dtype).tiny)


def weighed(weight: Tensor, values: Tensor) -> Tensor:
    """Return weight times values, 0 where the weight is 0 and the value infinite: a weight of 0 leaves out."""
    return weight * without_absent(values, weight)


def without_absent(values: Tensor, weight: Tensor) -> Tensor:
    """Return the values, with 0 for each infinite one whose weight is 0, so that neither product nor slope is NaN."""
    if is_readable(values) and math.isfinite(float(values.detach().sum())):
        return values
    return values.masked_fill((weight == 0) & values.isinf(), 0)
