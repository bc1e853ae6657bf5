"""Classification: classes are on dim 1; integer targets are class indices, floating ones probabilities."""

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor

from lossframe.losses.algorithms import class_targets
from lossframe.losses.algorithms.softmax import log_probabilities, log_probability
from lossframe.losses.base import checks, class_checks
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.options import LossOptions


class Classification(Loss):
    """Abstract base of the losses on one score per class, `[N, C, ...]`.

    Class indices equal to `ignore_index` do not count.
    """

    core_dims: tuple[int, ...] | None = (1,)
    class_inputs = frozenset(["target"])

    def __init__(self, ignore_index: int = -100, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.ignore_index = checks.whole(ignore_index=ignore_index)

    def check(self, logits: Tensor, target: Tensor) -> None:
        """Require floating logits `[N, C, ...]`; indices `[N, ...]` or probabilities `[N, C, ...]` as target."""
        class_checks.class_scores(target, logits=logits)

    def check_values(self, logits: Tensor, target: Tensor) -> None:
        """Require indices below the number of classes or ignored, or probabilities within [0, 1]."""
        class_checks.class_target(logits.shape[1], self.ignore_index, target=target)

    def counts(self, logits: Tensor, target: Tensor) -> Tensor | None:
        """Count the targets that are not ignored."""
        return class_targets.counted(logits, target, self.ignore_index)


class CrossEntropyLoss(Classification):
    r"""Softmax cross-entropy, $-\sum_c w_c\, y_c \log \mathrm{softmax}(z)_c$, one value per sample or pixel.

    Reads `logits` `[N, C, ...]` and `target`: class indices `[N, ...]` (`[N, 1]` is squeezed where logits are
    `[N, C]`) or probabilities `[N, C, ...]`. `label_smoothing` $s$ turns $y$ into $y (1 - s) + s / C$. `class_weight`
    multiplies the values; "weighted_mean" divides by its sum, as torch does. Targets equal to `ignore_index` do not
    count. A logit of $-\infty$ is a probability of 0: free where nothing is expected of its class, $w_c\, y_c = 0$.
    Source: Szegedy (2016), https://arxiv.org/abs/1512.00567 (smoothing).

    Coming from tf.contrib.losses `softmax_cross_entropy`: the same; classes are on dim 1.
    Coming from tf.contrib.losses `sparse_softmax_cross_entropy`: the same; classes are on dim 1.
    Coming from tefla `cross_entropy_loss`: the same.
    Coming from tefla `segment_loss`: `head` is `class_weight`, and no epsilon is added to the probabilities.
    Coming from tflearn `softmax_categorical_crossentropy`: the same.
    Coming from tflearn `weak_cross_entropy_2d`: `head` is `class_weight`; its epsilon, added to logits, had no effect.
    Coming from babilim `SparseCrossEntropyLossFromLogits`: the same; classes are on dim 1, and the result is the mean.
    Coming from blog `get_softmax_loss`: its value times C, for it averages over the C classes too.

    >>> import torch
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
        super().__init__(ignore_index, **options)
        self.label_smoothing = checks.fraction(label_smoothing=label_smoothing)
        self.register_buffer("class_weight", class_checks.class_numbers(class_weight=class_weight))

    def check(self, logits: Tensor, target: Tensor) -> None:
        """Require fitting shapes, and one class weight per class."""
        super().check(logits, target)
        class_checks.class_size(logits.shape[1], class_weight=self.class_weight)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return one value per target."""
        weight = None if self.class_weight is None else self.class_weight.to(logits.dtype).expand(logits.shape[1])
        if target.is_floating_point():
            return self._of_probabilities(logits, target.to(logits.dtype), weight)
        target, ignored = class_targets.without_ignored(logits, target, self.ignore_index)
        values = (self._smoothed if self.label_smoothing else self._of_indices)(logits, target, weight)
        return values if ignored is None else values.masked_fill(ignored, 0)

    def _of_indices(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        values = -log_probability(logits, target)
        return values if weight is None else class_targets.weighed(weight[target], values)

    def _of_probabilities(self, logits: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        if self.label_smoothing:
            y = y * (1 - self.label_smoothing) + self.label_smoothing / logits.shape[1]
        if weight is not None:
            y = y * class_targets.along(weight, logits)
        return -(y * log_probabilities(logits, y)).sum(1)

    def _smoothed(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Return the same as for probabilities, in fewer steps."""
        if weight is None:
            log_p = log_probabilities(logits, logits.new_ones(()))
            everyone, of_target = log_p.sum(1), class_targets.expected(log_p, target)
        else:
            along = class_targets.along(weight, logits)
            log_p = log_probabilities(logits, along)
            everyone, of_target = (along * log_p).sum(1), weight[target] * class_targets.expected(log_p, target)
        values = -self.label_smoothing / logits.shape[1] * everyone
        return values if self.label_smoothing == 1 else values - (1 - self.label_smoothing) * of_target

    def carried_weight(self, logits: Tensor, target: Tensor) -> Tensor | None:
        """Return the weight of each target's class."""
        if self.class_weight is None:
            return None
        weights = class_targets.along(self.class_weight, logits).expand_as(logits)
        counted = target if target.is_floating_point() else target.clamp(0, logits.shape[1] - 1)
        return class_targets.expected(weights, counted)


class FocalLoss(Classification):
    r"""Softmax cross-entropy that fades for what is already right: $-\sum_c \alpha_c\, y_c (1 - p_c)^\gamma \log p_c$.

    $p = \mathrm{softmax}(z)$. Reads `logits` `[N, C, ...]` and `target`: class indices `[N, ...]` or probabilities
    `[N, C, ...]`. Targets equal to `ignore_index` do not count. `alpha` is a number, or one per class. A
    logit of $-\infty$ is a probability of 0: free where nothing is expected of its class, $\alpha_c\, y_c = 0$.
    Source: Lin (2017), https://arxiv.org/abs/1708.02002.

    Coming from blog `get_focal_loss`: `n` is `gamma`; its value times C, for it averages over the C classes too.

    >>> import torch
    >>> logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    >>> FocalLoss(gamma=2.0)(logits, torch.tensor([0, 0]))
    tensor(0.8259)
    """

    alpha: Tensor | None

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float | Sequence[float] | Tensor | None = None,
        ignore_index: int = -100,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(ignore_index, **options)
        self.gamma = checks.not_negative(gamma=gamma)
        self.register_buffer("alpha", class_checks.class_numbers(alpha=alpha))

    def check(self, logits: Tensor, target: Tensor) -> None:
        """Require fitting shapes, and an alpha for all classes or one each."""
        super().check(logits, target)
        class_checks.class_size(logits.shape[1], alpha=self.alpha)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return one value per target."""
        if not target.is_floating_point():
            indices, ignored = class_targets.without_ignored(logits, target, self.ignore_index)
            values = self._of(log_probability(logits, indices))
            if self.alpha is not None:
                values = class_targets.weighed(self._alpha_of(logits)[indices], values)
            return values if ignored is None else values.masked_fill(ignored, 0)
        y = target.to(logits.dtype)
        if self.alpha is not None:
            y = y * class_targets.along(self._alpha_of(logits), logits)
        return (y * self._of(log_probabilities(logits, y))).sum(1)

    def _alpha_of(self, logits: Tensor) -> Tensor:
        """Return the alpha of each class."""
        assert self.alpha is not None
        return self.alpha.to(logits.dtype).expand(logits.shape[1])

    def _of(self, log_p: Tensor) -> Tensor:
        return -class_targets.fading(log_p, self.gamma) * log_p


class CategoricalAccuracy(Classification):
    r"""Share of right answers, $[\arg\max_c z_c = y]$: to be remembered, never differentiated.

    Reads `logits` `[N, C, ...]` (or probabilities) and `target`: class indices `[N, ...]`, `[N, 1]` for logits
    `[N, C]`, or probabilities `[N, C, ...]`. Targets equal to `ignore_index` do not count. In an objective its weight
    is 0 unless it is given.
    Source: babilim, https://github.com/penguinmenac3/babilim.

    Coming from babilim `SparseCategoricalAccuracy`: the same; classes are on dim 1.

    >>> import torch
    >>> CategoricalAccuracy()(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0]))
    tensor(0.5000)
    """

    default_weight = 0.0

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return 1 or 0 per target."""
        wanted = target.argmax(1) if target.is_floating_point() else class_targets.indices(logits, target)
        return (logits.argmax(1) == wanted).to(logits.dtype)
