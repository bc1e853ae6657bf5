"""Density estimation: the likelihood of what was seen."""

from typing import Unpack

from torch import Tensor

from lossframe.errors import InputError
from lossframe.losses.algorithms.logistic_mixture import negative_log_likelihood
from lossframe.losses.base import checks
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.options import LossOptions

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

    >>> import torch
    >>> image, parameters = torch.zeros(1, 1, 1, 1), torch.zeros(1, 3, 1, 1)
    >>> DiscretizedLogisticMixtureLoss(num_mixtures=1)(parameters, image)
    tensor(6.2344)
    """

    core_dims = (1, 2, 3)

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
        return negative_log_likelihood(parameters, image, self.num_mixtures)
