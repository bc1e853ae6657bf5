"""The softmax at a target's class, in the memory of its gradient, which is computed along with it."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from lossframe.functional.rowwise import rowwise

_PER_THREAD = 1 << 19
"""How many scores each thread works on at a time: few enough to reuse memory, many enough to seldom wait."""
_LANES = 16
"""How many classes fill a vector register; torch is slow for rows that are shorter."""
_MANY = 1 << 10
"""How many short rows are worth turning."""


def log_probability(scores: Tensor, target: Tensor) -> Tensor:
    r"""Return $\log \mathrm{softmax}(z)_t$ of scores `[N, C, ...]` at class indices `[N, ...]`, as `[N, ...]`."""
    return rowwise(_log_probability, _log_probability_and_gradient, scores, target, target.shape, _PER_THREAD)


def _log_probability(scores: Tensor, target: Tensor) -> Tensor:
    if torch.compiler.is_compiling():  # it makes two passes of this, and the gradient of nll_loss is not scattered
        shifted = scores - scores.detach().amax(1, keepdim=True)
        return -F.nll_loss(shifted, target, reduction="none") - shifted.exp().sum(1).log()
    return _at_target(_by_class(F.log_softmax, scores), target)


def _log_probability_and_gradient(scores: Tensor, target: Tensor, gradient: Tensor) -> Tensor:
    r"""Return the values; the gradient is $[j = t] - p_j$."""
    short = _are_short(scores)
    p = gradient.copy_(_by_class(F.softmax, scores)) if short else torch.softmax(scores, 1, out=gradient)
    at_target = _at_target(p, target)
    info = torch.finfo(p.dtype)
    if p.device.type == "cpu" and float(at_target.amin()) > info.tiny / info.eps:
        values = at_target.log_()
    else:  # it is too small, or not worth waiting for
        values = _log_probability(scores, target)
    index = target.unsqueeze(1)
    p.neg_().scatter_add_(1, index, torch.ones_like(index, dtype=p.dtype))
    return values


def _at_target(values: Tensor, target: Tensor) -> Tensor:
    return values.gather(1, target.unsqueeze(1)).squeeze(1)


def _by_class(softmax: Callable[[Tensor, int], Tensor], scores: Tensor) -> Tensor:
    """Return the softmax over dim 1, or its logarithm."""
    return softmax(scores.t().contiguous(), 0).t() if _are_short(scores) else softmax(scores, 1)


def _are_short(scores: Tensor) -> bool:
    """Return whether these are many short rows on a CPU, which had better be turned into columns."""
    return scores.ndim == 2 and scores.shape[1] < _LANES and len(scores) > _MANY and scores.device.type == "cpu"
