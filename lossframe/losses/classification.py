"""Classification: classes are on dim 1; integer targets are class indices, floating ones probabilities."""

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from lossframe import checks
from lossframe.loss import Loss, LossOptions


class Classification(Loss):
    """Abstract base of the losses on one score per class, `[N, C, ...]`."""

    def check(self, logits: Tensor, target: Tensor) -> None:
        """Require floating logits `[N, C, ...]`; indices `[N, ...]` or probabilities `[N, C, ...]` as target."""
        checks.class_scores(target, logits=logits)

    def check_values(self, logits: Tensor, target: Tensor) -> None:
        """Require indices below the number of classes, or probabilities within [0, 1]."""
        checks.class_target(logits.shape[1], None, target=target)


class CrossEntropyLoss(Classification):
    r"""Softmax cross-entropy, $-\sum_c w_c\, y_c \log \mathrm{softmax}(z)_c$, one value per sample or pixel.

    Reads `logits` `[N, C, ...]` and `target`: class indices `[N, ...]` (`[N, 1]` is squeezed where logits are
    `[N, C]`) or probabilities `[N, C, ...]`. `label_smoothing` $s$ turns $y$ into $y (1 - s) + s / C$. `class_weight`
    multiplies the values; "weighted_mean" divides by its sum, as torch does. Targets equal to `ignore_index` do not
    count. Source: `tf.contrib.losses.softmax_cross_entropy` and `sparse_softmax_cross_entropy`.

    >>> logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    >>> CrossEntropyLoss()(logits, torch.tensor([0, 0]))
    tensor(1.1269)
    """

    class_weight: Tensor | None

    def __init__(
        self,
        label_smoothing: float = 0.0,
        class_weight: Sequence[float] | Tensor | None = None,
        ignore_index: int = -100,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.label_smoothing = checks.fraction(label_smoothing=label_smoothing)
        self.ignore_index = ignore_index
        weight = None if class_weight is None else torch.as_tensor(class_weight, dtype=torch.get_default_dtype())
        self.register_buffer("class_weight", weight)

    def check(self, logits: Tensor, target: Tensor) -> None:
        """Require fitting shapes, and one class weight per class."""
        super().check(logits, target)
        if self.class_weight is not None:
            checks.size(0, logits.shape[1], class_weight=self.class_weight)

    def check_values(self, logits: Tensor, target: Tensor) -> None:
        """Require indices below the number of classes or ignored, or probabilities within [0, 1]."""
        checks.class_target(logits.shape[1], self.ignore_index, target=target)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return one value per target."""
        return F.cross_entropy(
            logits,
            class_form(logits, target),
            weight=None if self.class_weight is None else self.class_weight.to(logits.dtype),
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            reduction="none",
        )

    def counts(self, logits: Tensor, target: Tensor) -> Tensor | None:
        """Count the targets that are not ignored."""
        return None if target.is_floating_point() else class_form(logits, target).ne(self.ignore_index)

    def carried_weight(self, logits: Tensor, target: Tensor) -> Tensor | None:
        """Return the weight of each target's class."""
        if self.class_weight is None:
            return None
        target = class_form(logits, target)
        if target.is_floating_point():
            return torch.einsum("nc...,c->n...", target, self.class_weight.to(target.dtype))
        return self.class_weight[target.clamp(0, len(self.class_weight) - 1)]


def class_form(logits: Tensor, target: Tensor) -> Tensor:
    """Return a target in the form that torch takes: int64 indices `[N, ...]`, or probabilities like the logits."""
    if target.is_floating_point():
        return target.to(logits.dtype)
    return (target.squeeze(1) if target.ndim == logits.ndim else target).long()
