"""Binary classification: yes or no, for any number of independent questions, on scores and targets of one shape."""

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor

from lossframe.losses.algorithms import class_targets
from lossframe.losses.algorithms.binary import binary_cross_entropy, binary_focal
from lossframe.losses.base import checks, class_checks
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.options import LossOptions


class BinaryClassification(Loss):
    """Abstract base of the losses on one logit per yes or no, of any shape; soft targets are allowed."""

    core_dims = ()

    def check(self, logits: Tensor, target: Tensor) -> None:
        """Require floating logits, and a target of their shape."""
        checks.elementwise(target, logits=logits)

    def check_values(self, logits: Tensor, target: Tensor) -> None:
        """Require targets within [0, 1]."""
        checks.probabilities(target=target)


class BinaryCrossEntropyLoss(BinaryClassification):
    r"""Sigmoid cross-entropy, $-w\, y \log \sigma(z) - (1 - y) \log(1 - \sigma(z))$, one value per element.

    `label_smoothing` $s$ turns $y$ into $y (1 - s) + s / 2$. `pos_weight` $w$ is a number, or one per class of logits
    `[N, C, ...]`.
    Source: tf.contrib.losses,
    https://github.com/tensorflow/tensorflow/blob/v1.15.0/tensorflow/contrib/losses/python/losses/loss_ops.py.

    Coming from tf.contrib.losses `sigmoid_cross_entropy`: the same.
    Coming from tflearn `binary_crossentropy`: the same.
    Coming from tflearn `weighted_crossentropy`: `weight` is `pos_weight`.

    >>> import torch
    >>> BinaryCrossEntropyLoss()(torch.tensor([0.0, 2.0]), torch.tensor([1, 1]))
    tensor(0.4100)
    """

    pos_weight: Tensor | None

    def __init__(
        self,
        label_smoothing: float = 0.0,
        pos_weight: float | Sequence[float] | Tensor | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.label_smoothing = checks.fraction(label_smoothing=label_smoothing)
        self.register_buffer("pos_weight", class_checks.class_numbers(pos_weight=pos_weight))

    def check(self, logits: Tensor, target: Tensor) -> None:
        """Require fitting shapes, and one positive weight, or one per class."""
        super().check(logits, target)
        if self.pos_weight is not None and self.pos_weight.ndim:
            checks.dimensions("[N, C, ...]", 2, None, logits=logits)
            class_checks.class_size(logits.shape[1], pos_weight=self.pos_weight)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return one value per element."""
        y = target
        if self.label_smoothing:
            y = y.to(logits.dtype) * (1 - self.label_smoothing) + self.label_smoothing / 2
        weight = None if self.pos_weight is None else class_targets.along(self.pos_weight, logits)
        return binary_cross_entropy(logits, y, weight)


class BinaryFocalLoss(BinaryClassification):
    r"""Sigmoid cross-entropy that fades for what is already right: $-\alpha_t (1 - p_t)^\gamma \log p_t$, per element.

    For $y = 1$, $p_t = \sigma(z)$ and $\alpha_t = \alpha$; for $y = 0$, $1 - \sigma(z)$ and $1 - \alpha$; for a soft
    target both are mixed. `alpha=None` leaves $\alpha_t$ out.
    Source: Lin (2017), https://arxiv.org/abs/1708.02002.

    >>> import torch
    >>> BinaryFocalLoss(gamma=2.0, alpha=0.25)(torch.tensor([0.0, 2.0]), torch.tensor([1, 0]))
    tensor(0.6404)
    """

    def __init__(self, gamma: float = 2.0, alpha: float | None = 0.25, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.gamma = checks.not_negative(gamma=gamma)
        self.alpha = None if alpha is None else checks.fraction(alpha=alpha)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return one value per element."""
        return binary_focal(logits, target, self.gamma, self.alpha)


class HingeLoss(BinaryClassification):
    r"""Linear below a margin of 1, $\max(0, 1 - t z)$, one value per element.

    `labels` says how the target is written: "binary", 0 or 1, $t = 2 y - 1$; or "signed", -1 or 1, $t = y$. Values in
    between are allowed. Source: Cortes & Vapnik (1995), https://doi.org/10.1007/BF00994018.

    Coming from tf.contrib.losses `hinge_loss`: `reduction="none"` gives its values.
    Coming from tflearn `hinge_loss`: `labels="signed"`; a target 0 costs 1 there, without a gradient.

    >>> import torch
    >>> HingeLoss()(torch.tensor([0.5, 0.5]), torch.tensor([1, 0]))
    tensor(1.)
    """

    def __init__(self, labels: str = "binary", **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.labels = checks.one_of("labels", labels, ("binary", "signed"))

    def check_values(self, logits: Tensor, target: Tensor) -> None:
        """Require targets in the range of the convention."""
        checks.within(0 if self.labels == "binary" else -1, 1, target=target)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return one value per element."""
        y = target.to(logits.dtype)
        sign = 2 * y - 1 if self.labels == "binary" else y
        return (1 - sign * logits).relu()
