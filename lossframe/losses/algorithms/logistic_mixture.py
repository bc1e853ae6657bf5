r"""Evaluates the likelihood of 8-bit images under mixtures of logistics, with its gradient in closed form.

Of a colour value $x$ under a logistic of mean $\mu$ and scale $s$: $m = (x - \mu) / s$ is the middle of its bin,
$h = 1 / (255 s)$ half the bin's width. Tensors of colours and components are `[N, channels, K, H, W]`.
"""

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lossframe.losses.algorithms.rowwise import rowwise

_HALF_BIN = 1 / 255
_LOWEST_LOG_SCALE = -7.0
_EDGE = 0.999
_TINY = 1e-5
_PER_THREAD = 1 << 17
"""Parameters that each thread evaluates at a time, which bounds the memory."""


def negative_log_likelihood(parameters: Tensor, image: Tensor, num_mixtures: int) -> Tensor:
    """Return one value per image, in nats; `parameters` `[N, C, H, W]` are in the order of PixelCNN++."""
    values, slopes = partial(_values, k=num_mixtures), partial(_values_and_slopes, k=num_mixtures)
    return rowwise(values, slopes, parameters, image, image.shape[:1], _PER_THREAD)


def _values(parameters: Tensor, image: Tensor, k: int) -> Tensor:
    bins = _bins(_by_colour(parameters, image, k), image.to(parameters.dtype).unsqueeze(2))
    log_p = bins.log_p.sum(1) + F.log_softmax(parameters[:, :k], 1)
    # the slopes of logsumexp sum to 1 where its values are small alone: ln 2 is lost in 1e20
    top = log_p.detach().amax(1, keepdim=True).clamp_min(torch.finfo(log_p.dtype).min)
    return -(top.squeeze(1) + (log_p - top).logsumexp(1)).sum((1, 2))


def _values_and_slopes(parameters: Tensor, image: Tensor, slopes: Tensor, k: int) -> Tensor:
    """Return the values; the slopes of a component are weighted by its posterior probability at each pixel."""
    x, given = image.to(parameters.dtype).unsqueeze(2), _by_colour(parameters, image, k)
    bins, shares = _bins(given, x), F.log_softmax(parameters[:, :k], 1)
    log_p = bins.log_p.sum(1).add_(shares)
    blame = log_p.softmax(1)
    torch.sub(shares.exp_(), blame, out=slopes[:, :k])
    of_mean, of_log_scale = _slopes(bins, x)
    found, blame = _by_colour(slopes, image, k), blame.neg_().unsqueeze(1)
    torch.mul(of_mean, blame, out=found[:, :, 0])
    torch.mul(of_log_scale.mul_(given[:, :, 1] >= _LOWEST_LOG_SCALE), blame, out=found[:, :, 1])
    if x.shape[1] == 3:
        coefficients = found[:, :, 2]
        torch.mul(found[:, 1, 0], x[:, 0], out=coefficients[:, 0])
        torch.mul(found[:, 2, 0], x[:, 0], out=coefficients[:, 1])
        torch.mul(found[:, 2, 0], x[:, 1], out=coefficients[:, 2])
        coefficients.mul_(given[:, :, 2].tanh().square_().neg_().add_(1))
    return -log_p.logsumexp(1).sum((1, 2))


def _by_colour(parameters: Tensor, image: Tensor, k: int) -> Tensor:
    """Return the parameters behind the logits, `[N, channels, kinds, K, H, W]`: means, log-scales, coefficients."""
    n, channels, height, width = image.shape
    following = parameters[:, k:]
    return following.view(n, channels, following.shape[1] // (channels * k), k, height, width)


class _Bins(NamedTuple):
    """Holds results of a bin that likelihood and slopes share; `above`, `below` hold the mass beyond its ends."""

    inverse: Tensor
    middle: Tensor
    half: Tensor
    above: Tensor
    below: Tensor
    width: Tensor
    tail: Tensor
    dense: Tensor
    log_p: Tensor


def _bins(given: Tensor, x: Tensor) -> _Bins:
    """Return the log-probabilities of the bins around `x`, `[N, channels, 1, H, W]`, and the results behind them."""
    mean, log_scale = given[:, :, 0], given[:, :, 1].clamp_min(_LOWEST_LOG_SCALE)
    if x.shape[1] == 3:
        mean = _conditioned(mean, given[:, :, 2].tanh(), x[:, :, 0])
    inverse = torch.exp(-log_scale)
    middle, half = (x - mean) * inverse, inverse * _HALF_BIN
    above, below, width = (half + middle).sigmoid_(), (half - middle).sigmoid_(), -torch.expm1(-2 * half)
    inside = above * below * width  # the difference of two sigmoids, as a product: nothing cancels
    lowest, edge = (x < -_EDGE).to(x.dtype), x.abs() > _EDGE
    # an open bin's logarithm, or that of sigmoid(-m), of which the density is made
    tail = F.logsigmoid(torch.addcmul(half * edge, middle, 2 * lowest - 1))
    dense = (inside <= _TINY) & ~edge
    # m + 2 ln sigmoid(-m), whose first two parts are 0 together where m is infinite
    density = (middle + tail).nan_to_num(0, torch.inf, -torch.inf).add(tail).sub_(log_scale).sub_(math.log(127.5))
    log_p = torch.where(edge, tail, torch.where(dense, density, inside.clamp_min(_TINY).log_()))
    return _Bins(inverse, middle, half, above, below, width, tail, dense, log_p)


def _slopes(bins: _Bins, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the slopes of the log-probabilities by mean and log-scale; overwrites the tensors of `bins`."""
    inverse, middle, half, above, below, width, tail, dense, _ = bins
    not_highest, not_lowest = (x <= _EDGE).to(x.dtype), (x >= -_EDGE).to(x.dtype)
    of_above = above.neg_().add_(1).mul_(not_highest)
    of_below = below.neg_().add_(1).mul_(not_lowest)
    # ln(width) by half: 2 / (exp(2 h) - 1)
    of_width = width.clamp_min_(torch.finfo(x.dtype).tiny).reciprocal_().sub_(1).mul_(2 * not_highest * not_lowest)
    of_half = of_width.add_(of_above).add_(of_below)
    of_middle = torch.where(dense, tail.expm1_().mul_(2).add_(1), of_above.sub_(of_below))
    of_log_scale = torch.where(dense, 1, half.mul_(of_half)).addcmul_(middle, of_middle).neg_()
    return of_middle.mul_(inverse).neg_(), of_log_scale


def _conditioned(means: Tensor, coefficients: Tensor, x: Tensor) -> Tensor:
    """Shift the means of green by red, and those of blue by red and green."""
    red, green, blue = means.unbind(1)
    first, second, third = coefficients.unbind(1)
    seen_red, seen_green = x[:, 0, None], x[:, 1, None]
    return torch.stack([red, green + first * seen_red, blue + second * seen_red + third * seen_green], 1)
