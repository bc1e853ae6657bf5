"""The softmax at a target's class, in the memory of its gradient, which is computed along with it.

A class at -inf has probability 0. A class at +inf has probability 1 if it is the only one, as a limit; to look for it
is cheap only on a CPU, and elsewhere the values of such a row are NaN.
"""

import math
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from lossframe.chunks import blocks
from lossframe.losses.algorithms.class_targets import without_absent
from lossframe.losses.algorithms.rowwise import rowwise
from lossframe.losses.base.tracing import is_compiled, is_readable

SCORES_PER_THREAD = 1 << 19
"""How many scores each thread works on at a time: few enough to reuse memory, many enough to seldom wait."""
_OF_PIXELS = 1 << 17
"""The same, of an image with far more, in which the scores of a pixel are far apart."""
_LANES = 16
"""How many classes fill a vector register; torch is slow for rows that are shorter."""
_MANY = 1 << 10
"""How many short rows are worth turning."""


def log_probability(scores: Tensor, target: Tensor) -> Tensor:
    r"""Return $\log \mathrm{softmax}(z)_t$ of scores `[N, C, ...]` at class indices `[N, ...]`, as `[N, ...]`."""
    return rowwise(_log_probability, _log_probability_and_gradient, scores, target, target.shape, SCORES_PER_THREAD)


def log_probabilities(scores: Tensor, weight: Tensor) -> Tensor:
    r"""Return $\log \mathrm{softmax}(z)$ over dim 1, to be multiplied by weights: 0 for $-\infty$ where these are 0."""
    values = F.log_softmax(scores, 1)
    if is_readable(values):
        total = float(values.detach().sum())
        if math.isfinite(total):
            return values
        if math.isnan(total):
            values = F.log_softmax(_finite_at_top(scores, 1), 1)
    return without_absent(values, weight)


def _log_probability(scores: Tensor, target: Tensor) -> Tensor:
    if is_compiled():  # it makes two passes of this, and the gradient of nll_loss is not scattered
        shifted = scores - scores.detach().amax(1, keepdim=True)
        return -F.nll_loss(shifted, target, reduction="none") - shifted.exp().sum(1).log()
    values = F.log_softmax(scores.t().contiguous(), 0).t() if _are_short(scores) else F.log_softmax(scores, 1)
    taken = values.gather(1, target.unsqueeze(1)).squeeze(1)
    if is_readable(taken) and math.isnan(float(taken.detach().sum())):
        values = F.log_softmax(_finite_at_top(scores, 1), 1)
        taken = values.gather(1, target.unsqueeze(1)).squeeze(1)
    return taken


def _log_probability_and_gradient(scores: Tensor, target: Tensor, gradient: Tensor) -> Tensor:
    r"""Return the values; the gradient is $[j = t] - p_j$."""
    if _are_short(scores):
        p = torch.softmax(scores.t().contiguous(), 0)
        values = _taken_from(p, scores.t(), target, 0)
        gradient.copy_(p.t())
        return values
    if scores.ndim == 2 or scores[0].numel() < 2 * SCORES_PER_THREAD or scores.device.type != "cpu":
        return _taken_from(torch.softmax(scores, 1, out=gradient), scores, target, 1)
    values = scores.new_empty(target.shape)
    for row, (image, classes) in enumerate(zip(scores, target, strict=True)):
        for part in blocks(classes, max(1, _OF_PIXELS // len(image))):
            p = torch.softmax(image[:, part], 0)
            values[row, part] = _taken_from(p, image[:, part], classes[part], 0)
            gradient[row, :, part] = p
    return values


def _taken_from(p: Tensor, scores: Tensor, target: Tensor, dim: int) -> Tensor:
    """Return the values of probabilities, which become the gradient."""
    index = target.unsqueeze(dim)
    values = p.gather(dim, index)
    info = torch.finfo(p.dtype)
    lowest = float(values.amin()) if p.device.type == "cpu" else 0.0
    if lowest > info.tiny / info.eps:
        values.log_()
    else:  # it is too small, or not worth waiting for
        if math.isnan(lowest):
            scores = _finite_at_top(scores, dim)
            p.copy_(torch.softmax(scores, dim))
        values = F.log_softmax(scores, dim).gather(dim, index)
    p.neg_().scatter_add_(dim, index, torch.ones_like(index, dtype=p.dtype))
    return values.squeeze(dim)


def _finite_at_top(scores: Tensor, dim: int) -> Tensor:
    """Return scores of the same softmax: where one class alone is at +inf, it is at 0, and the others are at -inf."""
    return cast(Tensor, _FiniteAtTop.apply(scores, dim))


class _FiniteAtTop(torch.autograd.Function):
    """Moves classes at +inf; gradients pass, for that of the softmax is right once its probabilities are."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, dim: int) -> Tensor:
        top = scores == torch.inf
        alone = top.sum(dim, keepdim=True) == 1
        return torch.where(alone, torch.where(top, 0, -torch.inf), scores)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def _are_short(scores: Tensor) -> bool:
    """Return whether these are many short rows on a CPU, which had better be turned into columns."""
    return scores.ndim == 2 and scores.shape[1] < _LANES and len(scores) > _MANY and scores.device.type == "cpu"
