"""Segmentation: overlap of regions instead of a penalty per pixel."""

import math
from typing import Unpack

from torch import Tensor
from torch.nn import functional as F

from lossframe import checks
from lossframe.functional import classes
from lossframe.loss import LossOptions
from lossframe.losses.classification import Classification


class DiceLoss(Classification):
    r"""Soft Dice, $1 - \frac{2 \sum p\, y + s}{\sum p + \sum y + s}$ over the pixels, one value per sample and class.

    $p = \mathrm{softmax}(z)$. Reads `logits` `[N, C, ...]` and `target`: class indices `[N, ...]` or probabilities
    `[N, C, ...]`. The sums are over the pixels of a sample; `batch=True` takes them over all pixels of the batch, one
    value per class `[1, C]`. `smooth` is $s$. Source: Milletari (2016), https://arxiv.org/abs/1606.04797.

    >>> import torch
    >>> logits = torch.zeros(1, 2, 1, 4)
    >>> DiceLoss()(logits, torch.tensor([[[0, 0, 1, 1]]]))
    tensor(0.4000)
    """

    def __init__(self, smooth: float = 1.0, batch: bool = False, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.smooth = checks.positive(smooth=smooth)
        self.batch = batch
        self.relational = batch

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return one value per sample and class."""
        p = F.softmax(logits, 1)
        y = classes.probabilities(logits, target)
        overlap, size = self._total(p * y), self._total(p + y)
        return 1 - (2 * overlap + self.smooth) / (size + self.smooth)

    def _total(self, x: Tensor) -> Tensor:
        pixels = x.reshape(*x.shape[:2], math.prod(x.shape[2:])).sum(2)
        return pixels.sum(0, keepdim=True) if self.batch else pixels
