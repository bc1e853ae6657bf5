"""The focal loss of one logit per yes or no, with its slopes in closed form."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from lossframe.functional.classes import TINY, fading
from lossframe.functional.rowwise import rowwise

_PER_THREAD = 1 << 17
"""How many logits each thread works on at a time: few enough to reuse memory, many enough to seldom wait."""


def binary_focal(logits: Tensor, target: Tensor, gamma: float, alpha: float | None) -> Tensor:
    r"""Return $-\alpha_t (1 - p_t)^\gamma \log p_t$, one value per element; targets are from 0 to 1.

    Without `alpha`, $\alpha_t = 1$.
    """
    plain, along = partial(_values, gamma=gamma, alpha=alpha), partial(_with_gradient, gamma=gamma, alpha=alpha)
    return rowwise(plain, logits.reshape(-1), target.reshape(-1), _PER_THREAD, along).reshape(logits.shape)


def _values(logits: Tensor, target: Tensor, gamma: float, alpha: float | None) -> Tensor:
    y = target.to(logits.dtype)
    wrong = torch.lerp(logits.sigmoid(), (-logits).sigmoid(), y)
    values = fading(wrong, gamma) * _cross_entropy(logits, y)
    return values if alpha is None else _alpha_of(y, alpha) * values


def _with_gradient(logits: Tensor, target: Tensor, gamma: float, alpha: float | None) -> tuple[Tensor, Tensor]:
    r"""Return the values and their slopes, $\alpha_t w^{\gamma - 1} [w (s - y) + \gamma (1 - 2 y) s (1 - s) L]$.

    $s = \sigma(z)$, $w$ is what is wrong, $s + y (1 - 2 s)$, and $L$ the cross-entropy.
    """
    y = target.to(logits.dtype)
    yes, no = logits.sigmoid(), (-logits).sigmoid_()
    wrong, values = torch.lerp(yes, no, y).clamp_min_(TINY), _cross_entropy(logits, y)
    turn = torch.rsub(y, gamma, alpha=2 * gamma)
    slopes = no.mul_(yes).mul_(turn).mul_(values).addcmul_(wrong, yes.sub_(y))
    scale = wrong if gamma == 2 else wrong.pow(gamma - 1)
    if alpha is not None:
        scale = _alpha_of(y, alpha).mul_(scale)
    return values.mul_(wrong).mul_(scale), slopes.mul_(scale)


def _alpha_of(y: Tensor, alpha: float) -> Tensor:
    return torch.rsub(y, 1 - alpha, alpha=1 - 2 * alpha)  # 1 - alpha where y is 0, alpha where it is 1


def _cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, y, reduction="none")
