"""Segmentation: overlap of regions instead of a penalty per pixel."""

import math
from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from lossframe.losses.algorithms import class_targets
from lossframe.losses.base import checks
from lossframe.losses.base.options import LossOptions
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

    core_dims = None  # a value of a class depends on the scores of all

    def __init__(self, smooth: float = 1.0, batch: bool = False, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.smooth = checks.positive(smooth=smooth)
        self.batch = batch
        self.relational = batch
        self.per_sample = not batch

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return one value per sample and class."""
        p = self._pixels(F.softmax(logits, 1))
        if target.is_floating_point():
            y = self._pixels(target.to(p.dtype))
            overlap, share = (p * y).sum(2), y.sum(2)
        else:
            index, nothing = class_targets.indices(logits, target).reshape(len(p), p.shape[2]), p.new_zeros(p.shape[:2])
            overlap = nothing.scatter_add(1, index, p.gather(1, index.unsqueeze(1)).squeeze(1))
            share = nothing.scatter_add(1, index, torch.ones_like(index, dtype=p.dtype))
        overlap, size = self._total(overlap), self._total(p.sum(2) + share)
        return (size - 2 * overlap).clamp_min(0) / (size + self.smooth)

    def _pixels(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], math.prod(x.shape[2:]))

    def _total(self, sums: Tensor) -> Tensor:
        return sums.sum(0, keepdim=True) if self.batch else sums
