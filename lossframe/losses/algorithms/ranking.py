"""Sums over all pairs of a positive and a negative, in O(N log N) time."""

import math
from typing import Any

import torch
from torch import Tensor

from lossframe.losses.algorithms import sorting


def pair_sums(scores: Tensor, positive: Tensor, margin: float, power: int) -> Tensor:
    r"""Return $\sum_j \max(0, m - (s_i - s_j))^k$ over the negatives $j$ for each positive `[M]`; others get 0.

    In one ascending order of the positives' $-s_i + m$ and the negatives' $-s_j$, the negatives that violate the margin
    of a positive are those before it. Summed in float64, and centred first: powers of a common offset would cancel.
    """
    center = scores.detach().double().sum() / max(len(scores), 1)
    limits = (center - scores.detach().double()).add_(margin * positive).to(scores.dtype)
    keys = sorting.keys(limits, torch.arange(len(scores), device=scores.device), positive)[None]
    ordered = sorting.Ordered(keys, limits.dtype)
    (flags,), (order,) = ordered.flagged(), ordered.columns()
    lowness = center - scores.gather(0, order).double()  # single precision moves half the bytes about
    sums_before = _sums_before if torch.compiler.is_compiling() else _SumsBefore.apply
    sums = sums_before(lowness, flags, margin, power).to(scores.dtype)
    return torch.zeros_like(scores).scatter(0, order, sums)


def _sums_before(x: Tensor, positive: Tensor, margin: float, power: int) -> Tensor:
    r"""Return $\sum_{j < i} (x_i + m - x_j)^k$ over the negatives $j$ before a positive $i$; 0 for negatives."""
    return _polynomials((~positive).double(), x, x + margin, power) * positive


class _SumsBefore(torch.autograd.Function):
    """`_sums_before`, with a gradient in fewer steps, and a gradient of that."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, positive: Tensor, margin: float, power: int) -> Tensor:
        ctx.save_for_backward(x, positive)
        ctx.margin, ctx.power = margin, power
        return _sums_before(x, positive, margin, power)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        x, positive = ctx.saved_tensors
        reach, k = x + ctx.margin, ctx.power
        weight = grad * positive
        of_positives = weight * _polynomials((~positive).double(), x, reach, k - 1)
        of_negatives = _polynomials(weight, -reach, -x, k - 1, behind=True) * ~positive
        return k * (of_positives - of_negatives), None, None, None


def _polynomials(weight: Tensor, x: Tensor, y: Tensor, power: int, behind: bool = False) -> Tensor:
    r"""Return $\sum_j w_j (y_i - x_j)^k$ over the places $j$ up to each, or from it on.

    As $\sum_q \binom{k}{q} y_i^{k - q} \sum_j w_j (-x_j)^q$, by Horner's rule.
    """
    result, factor = torch.zeros_like(y), -x
    for q in range(power + 1):
        sums = weight.cumsum(0)
        if behind:
            sums = sums[-1:] - sums
        result = (result * y).add_(sums, alpha=math.comb(power, q))
        weight = weight * factor
    return result
