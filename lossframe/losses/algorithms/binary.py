"""Evaluates losses of one logit per binary target in [0, 1], with their slopes in closed form.

An infinite logit gives 0 if it agrees with its target, else infinity, with the slope of the limit. Targets that are all
0 or 1 give these limits without further operations. Only on a CPU are targets examined and infinite logits looked for;
elsewhere an infinite logit may give NaN, as it does in torch.
"""

import math
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from lossframe.losses.algorithms.class_targets import CERTAIN, lowest, weighed
from lossframe.losses.algorithms.rowwise import rowwise
from lossframe.losses.base.tracing import is_readable

_PER_THREAD = 1 << 16
"""Logits that each thread evaluates at a time, so that their intermediate results stay in its cache."""
_LINEAR = 40.0
"""Logit above which ln(1 + exp(x)) equals x in float64."""


def binary_cross_entropy(logits: Tensor, target: Tensor, pos_weight: Tensor | None = None) -> Tensor:
    r"""Return $-w\, y \log \sigma(z) - (1 - y) \log(1 - \sigma(z))$, one value per element; $w$ broadcasts."""
    values, slopes = (partial(f, pos_weight=pos_weight) for f in (_cross_entropy, _cross_entropy_and_slopes))
    if pos_weight is not None and pos_weight.requires_grad:
        return values(logits, target)
    rows, of_target = logits, target
    if pos_weight is None or not pos_weight.ndim:
        rows, of_target = logits.reshape(-1), target.reshape(-1)
    return rowwise(values, slopes, rows, of_target, rows.shape, _PER_THREAD).reshape(logits.shape)


def binary_focal(logits: Tensor, target: Tensor, gamma: float, alpha: float | None) -> Tensor:
    r"""Return $-\alpha_t (1 - p_t)^\gamma \log p_t$, one value per element; without `alpha`, $\alpha_t = 1$."""
    values, slopes = partial(_focal, gamma=gamma, alpha=alpha), partial(_focal_and_slopes, gamma=gamma, alpha=alpha)
    flat, of_target = logits.reshape(-1), target.reshape(-1)
    return rowwise(values, slopes, flat, of_target, flat.shape, _PER_THREAD).reshape(logits.shape)


def _cross_entropy(logits: Tensor, target: Tensor, pos_weight: Tensor | None = None) -> Tensor:
    y = target.to(logits.dtype)
    if not _are_certain(y):
        return _cross_entropy_of_soft(logits, y, pos_weight)
    values = F.softplus(_opposed(logits, y), threshold=_LINEAR)
    return values if pos_weight is None else weighed(_weight_of(y, pos_weight), values)


def _cross_entropy_of_soft(logits: Tensor, y: Tensor, pos_weight: Tensor | None = None) -> Tensor:
    values = F.binary_cross_entropy_with_logits(logits, y, pos_weight=pos_weight, reduction="none")
    if is_readable(values) and math.isnan(float(values.detach().sum())):
        with torch.no_grad():  # its slopes are right, and do not depend on its values
            cost = torch.where(logits > 0, 1 - y, y if pos_weight is None else pos_weight * y)
            values.copy_(torch.where(logits.isinf(), torch.where(cost > 0, torch.inf, 0), values))
    return values


def _cross_entropy_and_slopes(
    logits: Tensor, target: Tensor, slopes: Tensor, pos_weight: Tensor | None = None
) -> Tensor:
    r"""Return the values; the slopes are $(1 - y)\, \sigma(z) - w\, y\, \sigma(-z)$.

    Without $w$ the slopes are $\sigma(z) - y$; for targets of 0 or 1 no subtraction is needed, and no digit is lost.
    """
    y = target.to(logits.dtype)
    if not _are_certain(y, slopes):
        torch.sigmoid(logits, out=slopes)
        if pos_weight is not None:
            slopes.mul_(_weight_of(y, pos_weight))
        slopes.sub_(y if pos_weight is None else pos_weight * y)
        return _cross_entropy_of_soft(logits, y, pos_weight)
    sign = torch.rsub(y, 1, alpha=2)
    values = F.softplus(torch.mul(logits, sign, out=slopes), threshold=_LINEAR)
    slopes.sigmoid_().mul_(sign)
    if pos_weight is None:
        return values
    weight = _weight_of(y, pos_weight)
    slopes.mul_(weight)
    return weighed(weight, values)


def _focal(logits: Tensor, target: Tensor, gamma: float, alpha: float | None) -> Tensor:
    y, inner = target.to(logits.dtype), logits.clamp(-CERTAIN, CERTAIN)
    if _are_certain(y):
        values = F.softplus(_opposed(logits, y), threshold=_LINEAR)
        faded = (-gamma * F.softplus(-_opposed(inner, y), threshold=_LINEAR)).exp()
    else:
        values = _cross_entropy_of_soft(logits, y)
        wrong = torch.lerp(inner.sigmoid(), (-inner).sigmoid(), y)
        faded = wrong.clamp_min(lowest(y.dtype)).pow(gamma)
        if gamma:  # the slope by the target is as large as the logit
            faded = faded * (wrong > 0)
    return faded * values if alpha is None else _times(_alpha_of(y, alpha), faded * values, alpha)


def _focal_and_slopes(logits: Tensor, target: Tensor, slopes: Tensor, gamma: float, alpha: float | None) -> Tensor:
    r"""Return the values; the slopes are $\alpha_t w^{\gamma - 1} [w (s - y) + \gamma (1 - 2 y) s (1 - s) L]$.

    $s = \sigma(z)$, $w = s + y (1 - 2 s)$ is the probability of an error, and $L$ the cross-entropy.
    """
    y = target.to(logits.dtype)
    if _are_certain(y, slopes):
        return _focal_of_certain(logits, y, slopes, gamma, alpha)
    yes, no = logits.sigmoid(), (-logits).sigmoid_()
    wrong, values = torch.lerp(yes, no, y).clamp_min_(lowest(y.dtype)), _cross_entropy_of_soft(logits, y)
    turn = torch.rsub(y, gamma, alpha=2 * gamma)
    torch.mul(no, yes, out=slopes).mul_(turn).mul_(values.clamp_max(CERTAIN)).addcmul_(wrong, yes.sub_(y))
    scale = wrong if gamma == 2 else wrong.pow(gamma - 1)
    if alpha is not None:
        scale = _alpha_of(y, alpha).mul_(scale)
    slopes.mul_(scale)
    return _times(scale, values.mul_(wrong), alpha)


def _are_certain(y: Tensor, memory: Tensor | None = None) -> bool:
    """Return whether every target is known to be 0 or 1; False on a GPU, where the answer would have to be waited for.

    The comparison takes memory of the targets' shape. The first target is examined alone, because among soft targets it
    is mostly soft.
    """
    if y.requires_grad or not y.numel() or not is_readable(y) or float(y[(0,) * y.ndim]) not in (0, 1):
        return False
    return float(torch.addcmul(y, y, y, value=-1, out=memory).sum()) == 0


def _weight_of(y: Tensor, pos_weight: Tensor) -> Tensor:
    """Return the weight of each target, exact where it is 0 or 1."""
    return torch.rsub(y, 1).addcmul_(y, pos_weight)


def _opposed(logits: Tensor, y: Tensor) -> Tensor:
    """Return the logits, negated where the target is 1."""
    return logits * torch.rsub(y, 1, alpha=2)


def _focal_of_certain(logits: Tensor, y: Tensor, slopes: Tensor, gamma: float, alpha: float | None) -> Tensor:
    r"""Return values and slopes in fewer operations for targets that are all 0 or 1.

    The slopes are $\pm \alpha_t w^\gamma [w + \gamma (1 - w) L]$.
    """
    sign = torch.rsub(y, 1, alpha=2)
    opposed = torch.mul(logits, sign, out=slopes)
    wrong, values = opposed.sigmoid(), F.softplus(opposed, threshold=_LINEAR)
    finite = values.clamp_max(CERTAIN)  # beyond, 1 - w is 0
    torch.addcmul(finite, wrong, finite, value=-1, out=slopes).mul_(gamma).add_(wrong)
    scale = wrong.square_() if gamma == 2 else wrong.pow_(gamma)
    if alpha is not None:
        scale.mul_(_alpha_of(y, alpha))
    slopes.mul_(sign).mul_(scale)
    return _times(scale, values, alpha)


def _times(scale: Tensor, values: Tensor, alpha: float | None) -> Tensor:
    """Multiply values by alpha in place; an alpha of 0 gives 0, also for an infinite value."""
    return weighed(scale, values) if alpha in (0, 1) else values.mul_(scale)


def _alpha_of(y: Tensor, alpha: float) -> Tensor:
    return torch.rsub(y, 1 - alpha, alpha=1 - 2 * alpha)  # 1 - alpha where y is 0, alpha where it is 1
