"""Segmentation: overlap of regions instead of a penalty per pixel."""

import math
from typing import Literal, Unpack, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from lossframe.errors import InputError
from lossframe.losses.algorithms import class_targets
from lossframe.losses.base import checks, class_checks
from lossframe.losses.base.options import LossOptions
from lossframe.losses.classification import Classification

Activation = Literal["softmax", "sigmoid"]


class DiceLoss(Classification):
    r"""Soft Dice, $1 - \frac{2 \sum p\, y + s}{\sum p + \sum y + s}$ over the pixels, one value per sample and class.

    Reads `logits` `[N, C, ...]` and `target`: class indices `[N, ...]` or probabilities `[N, C, ...]`. `activation`
    makes $p$ of the logits: "softmax" over the classes, "sigmoid" of each channel, or None, which reads probabilities.
    "sigmoid" and None also read one channel, and several labels per pixel as a target of 0 and 1 `[N, C, ...]`. Integer
    targets equal to `ignore_index` do not count, nor does a sample, or channel, of nothing else. The sums are over the
    pixels of a sample; `batch=True` takes them over all pixels of the batch, one value per class `[1, C]`. `smooth` is
    $s$. Source: Milletari (2016), https://arxiv.org/abs/1606.04797.

    >>> import torch
    >>> logits = torch.zeros(1, 2, 1, 4)
    >>> DiceLoss()(logits, torch.tensor([[[0, 0, 1, 1]]]))
    tensor(0.4000)
    >>> DiceLoss(activation="sigmoid")(logits[:, :1], torch.tensor([[[0, 0, 1, 1]]]))  # one channel
    tensor(0.4000)
    """

    core_dims = None  # a value of a class depends on the scores of all

    def __init__(
        self,
        smooth: float = 1.0,
        batch: bool = False,
        activation: Activation | None = "softmax",
        ignore_index: int = -100,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(ignore_index, **options)
        self.smooth = checks.positive(smooth=smooth)
        self.batch = batch
        self.activation = None if activation is None else checks.one_of("activation", activation, get_args(Activation))
        self.relational = batch
        self.per_sample = not batch

    def check(self, logits: Tensor, target: Tensor) -> None:
        """Require floating logits `[N, C, ...]`, and a target that fits the activation."""
        if self.activation == "softmax":
            super().check(logits, target)
        else:
            class_checks.channels(target, logits=logits)

    def check_values(self, logits: Tensor, target: Tensor) -> None:
        """Require indices, labels or probabilities in range or ignored, and without activation probabilities."""
        target = _along_channels(logits, target)
        class_checks.class_target(2 if target.shape == logits.shape else logits.shape[1], self.ignore_index, target)
        if self.activation is None:
            self._check_probabilities(logits, self._ignored(target))

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return one value per sample and class."""
        target = _along_channels(logits, target)
        ignored = self._ignored(target)
        if ignored is not None:
            logits, target = logits.masked_fill(ignored, 0), target.masked_fill(ignored, 0)
        p = self._activated(logits)
        p, y = _pixels(p if ignored is None else p.masked_fill(ignored, 0)), _pixels(target)
        if target.shape == logits.shape:
            y = y.to(p.dtype)
            overlap, share = (p * y).sum(2), y.sum(2)
        else:
            nothing, counted = p.new_zeros(p.shape[:2]), torch.ones_like(y) if ignored is None else ~_pixels(ignored)
            overlap = nothing.scatter_add(1, y.squeeze(1), p.gather(1, y).squeeze(1))
            share = nothing.scatter_add(1, y.squeeze(1), counted.squeeze(1).to(p.dtype))
        overlap, size = self._total(overlap), self._total(p.sum(2) + share)
        return (size - 2 * overlap).clamp_min(0) / (size + self.smooth)

    def counts(self, logits: Tensor, target: Tensor) -> Tensor | None:
        """Count the samples and channels of which some pixel is not ignored."""
        ignored = self._ignored(_along_channels(logits, target))
        if ignored is None:
            return None
        some = ~_pixels(ignored).all(2)
        return some.any(0, keepdim=True) if self.batch else some

    def _check_probabilities(self, p: Tensor, ignored: Tensor | None) -> None:
        try:
            checks.probabilities(logits=p if ignored is None else p.masked_fill(ignored, 0))
        except InputError as error:
            remedy = "activation='softmax' and activation='sigmoid' read logits"
            raise InputError(f"{error} with activation=None; {remedy}") from None

    def _activated(self, logits: Tensor) -> Tensor:
        if self.activation is None:
            return logits
        return F.softmax(logits, 1) if self.activation == "softmax" else logits.sigmoid()

    def _ignored(self, target: Tensor) -> Tensor | None:
        return None if target.is_floating_point() else class_targets.ignored(target, self.ignore_index)

    def _total(self, sums: Tensor) -> Tensor:
        return sums.sum(0, keepdim=True) if self.batch else sums


def _along_channels(logits: Tensor, target: Tensor) -> Tensor:
    """Return a target of one number per logit `[N, C, ...]`, or class indices `[N, 1, ...]` of two or more classes."""
    if target.numel() == logits.numel() and (logits.shape[1] == 1 or target.shape == logits.shape):
        return target.reshape(logits.shape)
    return class_targets.indices(logits, target).unsqueeze(1)


def _pixels(x: Tensor) -> Tensor:
    """Flatten all dims of pixels into one, `[N, C, P]`."""
    return x.reshape(*x.shape[:2], math.prod(x.shape[2:]))
