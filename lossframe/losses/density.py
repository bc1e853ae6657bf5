"""Density estimation: the likelihood of what was seen."""

import math
from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from lossframe import checks
from lossframe.errors import InputError
from lossframe.functional.rowwise import rowwise
from lossframe.loss import Loss, LossOptions

_HALF_BIN = 1 / 255
_LOWEST_LOG_SCALE = -7.0
_EDGE = 0.999
_TINY = 1e-5
_PER_THREAD = 1 << 17
"""How many parameters each thread works on at a time: it bounds the memory."""
_CHANNELS = {3: 10, 1: 3}
"""Parameters of a mixture component: 1 + 3 x (mean, scale, coefficient) for colour, 1 + mean + scale for gray."""


class DiscretizedLogisticMixtureLoss(Loss):
    r"""Negative log-likelihood of an image's 8-bit values under mixtures of logistics, $-\sum_x \log \sum_k \pi_k
    [\sigma(\frac{x + 1/255 - \mu_k}{s_k}) - \sigma(\frac{x - 1/255 - \mu_k}{s_k})]$, in nats, one value per image.

    Reads `image` `[N, 3, H, W]` within [-1, 1] and `parameters` `[N, 10 K, H, W]`, $K$ = `num_mixtures`: $K$ logits,
    then for each colour $K$ means, $K$ log-scales (at least -7) and $K$ coefficients, whose tanh lets green depend on
    red, and blue on both. Or `image` `[N, 1, H, W]` and `parameters` `[N, 3 K, H, W]`: logits, means, log-scales.
    A bin is 2/255 wide; those beyond $\pm 0.999$ are open; where its probability is at most 1e-5 the density at its
    middle stands for it. Source: Salimans (2017), https://arxiv.org/abs/1701.05517.

    Coming from tefla `discretized_mix_logistic_loss`: `reduction="sum"`; parameters come first, colours are on dim 1.

    >>> image, parameters = torch.zeros(1, 1, 1, 1), torch.zeros(1, 3, 1, 1)
    >>> DiscretizedLogisticMixtureLoss(num_mixtures=1)(parameters, image)
    tensor(6.2344)
    """

    def __init__(self, num_mixtures: int, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.num_mixtures = checks.at_least(1, num_mixtures=num_mixtures)

    def check(self, parameters: Tensor, image: Tensor) -> None:
        """Require floating `[N, 10 K, H, W]` parameters of images `[N, 3, H, W]`, or 3 K and 1."""
        checks.dimensions("[N, channels, H, W]", 4, 4, parameters=parameters, image=image)
        checks.floating(parameters=parameters, image=image)
        size = _CHANNELS.get(image.shape[1], 0) * self.num_mixtures
        if not size or parameters.shape != (len(image), size, *image.shape[2:]):
            colour, gray = (_CHANNELS[channels] * self.num_mixtures for channels in (3, 1))
            raise InputError(
                f"wanted parameters [N, {colour}, H, W] and image [N, 3, H, W], or [N, {gray}, H, W] and [N, 1, H, W], "
                f"found parameters {list(parameters.shape)} and image {list(image.shape)}"
            )

    def check_values(self, parameters: Tensor, image: Tensor) -> None:
        """Require an image within [-1, 1]."""
        checks.within(-1, 1, image=image)

    def loss(self, parameters: Tensor, image: Tensor) -> Tensor:
        """Return one value per image."""
        return rowwise(self._of_images, parameters, image, _PER_THREAD)

    def _of_images(self, parameters: Tensor, image: Tensor) -> Tensor:
        n, channels, height, width = image.shape
        logits, rest = parameters.tensor_split((self.num_mixtures,), 1)
        kinds = rest.shape[1] // (channels * self.num_mixtures)
        per_colour = rest.reshape(n, channels, kinds, self.num_mixtures, height, width)
        x = image.to(parameters.dtype).unsqueeze(2)  # [N, channels, 1, H, W]
        means, log_scales = per_colour[:, :, 0], per_colour[:, :, 1].clamp_min(_LOWEST_LOG_SCALE)
        if channels == 3:
            means = _conditioned(means, per_colour[:, :, 2].tanh(), x)
        log_p = _log_bin(x, means, log_scales).sum(1) + F.log_softmax(logits, 1)
        return -log_p.logsumexp(1).sum((1, 2))


def _conditioned(means: Tensor, coefficients: Tensor, x: Tensor) -> Tensor:
    """Shift the means of green by red, and those of blue by red and green; all `[N, 3, K, H, W]`."""
    red, green, blue = means.unbind(1)
    first, second, third = coefficients.unbind(1)
    seen_red, seen_green = x[:, 0], x[:, 1]
    return torch.stack([red, green + first * seen_red, blue + second * seen_red + third * seen_green], 1)


def _log_bin(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Return the log-probability of the bin around `x` under each logistic."""
    inverse = torch.exp(-log_scale)
    middle = inverse * (x - mean)
    above, below = middle + inverse * _HALF_BIN, middle - inverse * _HALF_BIN
    # the difference of two sigmoids, as a product: nothing cancels
    inside = above.sigmoid() * (-below).sigmoid() * -torch.expm1(-2 * inverse * _HALF_BIN)
    density = middle - log_scale - 2 * F.softplus(middle) - math.log(127.5)
    log_p = _choose(inside > _TINY, inside.clamp_min(_TINY).log(), density)
    return _choose(x < -_EDGE, F.logsigmoid(above), _choose(x > _EDGE, F.logsigmoid(-below), log_p))


def _choose(condition: Tensor, chosen: Tensor, otherwise: Tensor) -> Tensor:
    """Return what `torch.where` does of finite values, which is slow on a CPU."""
    return torch.lerp(otherwise, chosen, condition.to(chosen.dtype))
