"""Probabilities instead of scores: cross-entropies of what a model gives after its softmax or sigmoid."""

import math
from typing import Unpack

import torch
from torch import Tensor

from lossframe.errors import InputError
from lossframe.losses.algorithms import class_targets
from lossframe.losses.algorithms.log_loss import log_loss
from lossframe.losses.base import checks, class_checks
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.options import LossOptions

_SUM_ROUNDING = 1e-2
"""How far from 1 probabilities of half precision may sum to."""


class CategoricalCrossEntropyLoss(Loss):
    r"""Cross-entropy of probabilities, $-\sum_c y_c \log \mathrm{clip}(p_c, \epsilon, 1 - \epsilon)$.

    Reads `probabilities` `[N, C, ...]` and `target`: class indices `[N, ...]` or probabilities `[N, C, ...]`.
    Probabilities of class indices sum to 1 over the classes, or are all 0 for a sample of padding; soft targets may be
    several labels that exclude no other, and say nothing of the sums. Targets equal to `ignore_index` do not count.
    `normalize` first divides scores of any size by their sum over the classes; where that is 0, all are $\epsilon$.
    Source: scikit-learn's log_loss, https://scikit-learn.org/stable/modules/generated/sklearn.metrics.log_loss.html.

    Coming from tflearn `categorical_crossentropy`: `normalize=True, eps=1e-10`; it too reads scores >= 0, not logits.
    Coming from tefla `log_loss_custom`: its value times C, for it averages over the C classes too.

    >>> probabilities = torch.tensor([[0.8, 0.2], [0.5, 0.5]])
    >>> CategoricalCrossEntropyLoss()(probabilities, torch.tensor([0, 1]))
    tensor(0.4581)
    """

    core_dims = (1,)
    class_inputs = frozenset(["target"])

    def __init__(
        self, eps: float = 1e-7, normalize: bool = False, ignore_index: int = -100, **options: Unpack[LossOptions]
    ) -> None:
        super().__init__(**options)
        self.eps = checks.positive(eps=eps)
        self.normalize = normalize
        self.ignore_index = checks.whole(ignore_index=ignore_index)

    def check(self, probabilities: Tensor, target: Tensor) -> None:
        """Require floating probabilities `[N, C, ...]`; indices `[N, ...]` or probabilities `[N, C, ...]` as target."""
        class_checks.class_scores(target, probabilities=probabilities)

    def check_values(self, probabilities: Tensor, target: Tensor) -> None:
        """Require probabilities within [0, 1] that sum to 1 unless they are normalised, and a target of the classes."""
        class_checks.class_target(probabilities.shape[1], self.ignore_index, target=target)
        if self.normalize:
            return
        checks.probabilities(probabilities=probabilities)
        found = None if target.is_floating_point() else _first_not_1(probabilities)
        if found is not None:
            raise InputError(
                f"wanted probabilities that sum to 1 over the classes (dim 1), found a sum of {found:g}; "
                "normalize=True divides scores >= 0 by their sum, CrossEntropyLoss reads logits"
            )

    def loss(self, probabilities: Tensor, target: Tensor) -> Tensor:
        """Return one value per target."""
        if self.normalize and probabilities.shape[1]:
            largest = probabilities.detach().abs().amax(1, keepdim=True)
            scale = torch.where((largest > 0) & (largest < torch.inf), largest, 1)
            probabilities = probabilities / scale  # a sum of scores may overflow
            total = probabilities.sum(1, keepdim=True)
            probabilities = probabilities / torch.where(total == 0, 1, total)
        values = -probabilities.clamp_min(self.eps).log()
        values = values.clamp_min(-math.log1p(-self.eps))  # 1 - eps is rounded in float32
        if target.is_floating_point():
            return class_targets.expected(values, target)
        target, ignored = class_targets.without_ignored(probabilities, target, self.ignore_index)
        values = class_targets.expected(values, target)
        return values if ignored is None else values.masked_fill(ignored, 0)

    def counts(self, probabilities: Tensor, target: Tensor) -> Tensor | None:
        """Count the targets that are not ignored."""
        return class_targets.counted(probabilities, target, self.ignore_index)


def _first_not_1(rows: Tensor) -> float | None:
    """Return the first sum over the classes that is not 1, but for rounding; rows of zeros, as in padding, pass."""
    sums = rows.detach().sum(1)
    wrong = ((sums - 1).abs() > _SUM_ROUNDING) & (sums != 0)
    return sums[wrong][0].item() if wrong.any() else None


class LogLoss(Loss):
    r"""Cross-entropy of probabilities, $-y \log(p + \epsilon) - (1 - y) \log(1 - p + \epsilon)$, one value per element.

    A value below 0, which $\epsilon$ makes of a perfect prediction, is 0, with the formula's gradient.
    Source: tf.contrib.losses,
    https://github.com/tensorflow/tensorflow/blob/v1.15.0/tensorflow/contrib/losses/python/losses/loss_ops.py.

    Coming from tf.contrib.losses `log_loss`: the same.

    >>> import torch
    >>> LogLoss()(torch.tensor([0.5, 0.9]), torch.tensor([1, 0]))
    tensor(1.4979)
    """

    core_dims = ()

    def __init__(self, eps: float = 1e-7, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.eps = checks.positive(eps=eps)

    def check(self, probabilities: Tensor, target: Tensor) -> None:
        """Require floating probabilities, and a target of their shape."""
        checks.elementwise(target, probabilities=probabilities)

    def check_values(self, probabilities: Tensor, target: Tensor) -> None:
        """Require probabilities and targets within [0, 1]."""
        checks.probabilities(probabilities=probabilities, target=target)

    def loss(self, probabilities: Tensor, target: Tensor) -> Tensor:
        """Return one value per element."""
        return log_loss(probabilities.clamp(0, 1), target.to(probabilities.dtype), self.eps)
