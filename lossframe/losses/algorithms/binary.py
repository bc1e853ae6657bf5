"""Losses of one logit per yes or no, with their slopes in closed form; targets are from 0 to 1."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from lossframe.losses.algorithms.class_targets import TINY, fading
from lossframe.losses.algorithms.rowwise import rowwise

_PER_THREAD = 1 << 16
"""How many logits each thread works on at a time: few enough for all that is computed of them to stay in its cache."""
_LINEAR = 40.0
"""From here on ln(1 + exp(x)) is x in float64."""


def binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    r"""Return $-y \log \sigma(z) - (1 - y) \log(1 - \sigma(z))$, one value per element."""
    flat, of_target = logits.reshape(-1), target.reshape(-1)
    values = rowwise(_cross_entropy, _cross_entropy_and_slopes, flat, of_target, flat.shape, _PER_THREAD)
    return values.reshape(logits.shape)


def binary_focal(logits: Tensor, target: Tensor, gamma: float, alpha: float | None) -> Tensor:
    r"""Return $-\alpha_t (1 - p_t)^\gamma \log p_t$, one value per element; without `alpha`, $\alpha_t = 1$."""
    values, slopes = partial(_focal, gamma=gamma, alpha=alpha), partial(_focal_and_slopes, gamma=gamma, alpha=alpha)
    flat, of_target = logits.reshape(-1), target.reshape(-1)
    return rowwise(values, slopes, flat, of_target, flat.shape, _PER_THREAD).reshape(logits.shape)


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")


def _cross_entropy_and_slopes(logits: Tensor, target: Tensor, slopes: Tensor) -> Tensor:
    y = target.to(logits.dtype)
    torch.sigmoid(logits, out=slopes).sub_(y)
    return _cross_entropy(logits, y)


def _focal(logits: Tensor, target: Tensor, gamma: float, alpha: float | None) -> Tensor:
    y = target.to(logits.dtype)
    wrong = torch.lerp(logits.sigmoid(), (-logits).sigmoid(), y)
    values = fading(wrong, gamma) * _cross_entropy(logits, y)
    return values if alpha is None else _alpha_of(y, alpha) * values


def _focal_and_slopes(logits: Tensor, target: Tensor, slopes: Tensor, gamma: float, alpha: float | None) -> Tensor:
    r"""Return the values; the slopes are $\alpha_t w^{\gamma - 1} [w (s - y) + \gamma (1 - 2 y) s (1 - s) L]$.

    $s = \sigma(z)$, $w$ is what is wrong, $s + y (1 - 2 s)$, and $L$ the cross-entropy.
    """
    y = target.to(logits.dtype)
    if _are_certain(y):
        return _focal_of_certain(logits, y, slopes, gamma, alpha)
    yes, no = logits.sigmoid(), (-logits).sigmoid_()
    wrong, values = torch.lerp(yes, no, y).clamp_min_(TINY), _cross_entropy(logits, y)
    turn = torch.rsub(y, gamma, alpha=2 * gamma)
    torch.mul(no, yes, out=slopes).mul_(turn).mul_(values).addcmul_(wrong, yes.sub_(y))
    scale = wrong if gamma == 2 else wrong.pow(gamma - 1)
    if alpha is not None:
        scale = _alpha_of(y, alpha).mul_(scale)
    slopes.mul_(scale)
    return values.mul_(wrong).mul_(scale)


def _are_certain(y: Tensor) -> bool:
    """Return whether targets are known to be 0 or 1 each; on a GPU it is not worth waiting for."""
    if y.device.type != "cpu":
        return False
    between = y.square().sub_(y)
    return float(between.dot(between)) == 0


def _focal_of_certain(logits: Tensor, y: Tensor, slopes: Tensor, gamma: float, alpha: float | None) -> Tensor:
    r"""Do the same in fewer steps where every target is 0 or 1.

    The slopes are $\pm \alpha_t w^\gamma [w + \gamma (1 - w) L]$.
    """
    sign = torch.rsub(y, 1, alpha=2)
    opposed = torch.mul(logits, sign, out=slopes)
    wrong, values = opposed.sigmoid().clamp_min_(TINY), F.softplus(opposed, threshold=_LINEAR)
    torch.addcmul(values, wrong, values, value=-1, out=slopes).mul_(gamma).add_(wrong)
    scale = wrong.square_() if gamma == 2 else wrong.pow_(gamma)
    if alpha is not None:
        scale.mul_(_alpha_of(y, alpha))
    slopes.mul_(sign).mul_(scale)
    return values.mul_(scale)


def _alpha_of(y: Tensor, alpha: float) -> Tensor:
    return torch.rsub(y, 1 - alpha, alpha=1 - 2 * alpha)  # 1 - alpha where y is 0, alpha where it is 1
