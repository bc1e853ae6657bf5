"""Ordinal classification: classes `0, 1, ..., C - 1` are grades, and a far miss costs more than a near one.

All read `probabilities` `[N, C]`, whose rows need not sum to 1, and `target`: grades `[N]` or `[N, 1]`, or one-hot or
soft labels `[N, C]`. Kappa is a property of a batch: they are relational, and give one value for it.
"""

import math
from typing import Unpack

import torch
from torch import Tensor

from lossframe.losses.algorithms import class_targets
from lossframe.losses.algorithms.log_loss import log_loss
from lossframe.losses.base import checks, class_checks
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.options import LossOptions

_LOG_EPS = 1e-7
_CLIP_EPS = 1e-15


class Ordinal(Loss):
    r"""Abstract base: the kappa loss $-\kappa = \sum w O / \sum w E - 1$, $w_{ij} = (i - j)^2 / (C - 1)^2$.

    $O$ counts which grade was given to what; $E$ is what independent graders of these habits would give.
    """

    relational = True
    per_sample = False
    class_inputs = frozenset(["target"])

    def __init__(
        self, num_classes: int, power: float = 1.0, eps: float = 1e-15, **options: Unpack[LossOptions]
    ) -> None:
        super().__init__(**options)
        self.num_classes = checks.at_least(2, num_classes=num_classes)
        self.power = checks.positive(power=power)
        self.eps = checks.positive(eps=eps)

    def check(self, probabilities: Tensor, target: Tensor) -> None:
        """Require floating probabilities `[N, num_classes]`, and grades `[N]` or labels of their shape."""
        checks.dimensions("[N, C]", 2, 2, probabilities=probabilities)
        class_checks.class_scores(target, probabilities=probabilities)
        checks.size(1, self.num_classes, probabilities=probabilities)

    def check_values(self, probabilities: Tensor, target: Tensor) -> None:
        """Require probabilities >= 0, and a target that fits the classes."""
        checks.within(0, torch.finfo(probabilities.dtype).max, probabilities=probabilities)
        class_checks.class_target(self.num_classes, None, target=target)

    def kappa(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        """Return minus kappa: -1 with a zero gradient where all is of one grade, and right; none for no samples."""
        if not len(labels):
            return probabilities.sum(1)
        given, labels = self._normalized(probabilities.double()), labels.double()
        grades = torch.arange(self.num_classes, dtype=given.dtype, device=given.device)
        penalties = (grades[:, None] - grades).square() / (self.num_classes - 1) ** 2
        observed = (given @ penalties * labels).sum()
        chance = (given.sum(0) @ penalties * labels.sum(0)).sum() / len(labels)
        kappa = torch.where(chance > 0, observed / torch.where(chance > 0, chance, 1), observed * 0) - 1
        return kappa.to(probabilities.dtype)

    def _normalized(self, p: Tensor) -> Tensor:
        r"""Return $p^k / (\sum_c p_c^k + \epsilon)$ of rows, divided by their largest entry if that is above 1."""
        p = p if self.power >= 1 else p.clamp_min(self.eps)  # a root has an infinite slope at 0
        largest = p.detach().amax(1, keepdim=True).clamp_min(1)
        powers = p / largest if self.power == 1 else (p / largest).pow(self.power)
        return powers / (powers.sum(1, keepdim=True) + self.eps * largest.pow(-self.power))


class QuadraticWeightedKappaLoss(Ordinal):
    r"""Minus the quadratic weighted kappa of a batch: $\sum w O / \sum w E - 1$, from -1 (agreement) upwards.

    Rows $p$ become $p^k / (\sum_c p_c^k + \epsilon)$ first, with $k$ = `power`. One grade only, and all right, is -1.
    Source: De la Torre (2018), https://doi.org/10.1016/j.patrec.2017.05.018.

    Coming from tefla `kappa_loss`: `y_pow` is `power`; divides by the actual batch size, where that is an argument.

    >>> probabilities = torch.tensor([[0.8, 0.2], [0.4, 0.6]])
    >>> QuadraticWeightedKappaLoss(num_classes=2)(probabilities, torch.tensor([0, 1]))
    tensor(-0.4000)
    """

    def loss(self, probabilities: Tensor, target: Tensor) -> Tensor:
        """Return one value for the batch."""
        return self.kappa(probabilities, class_targets.probabilities(probabilities, target))


class OrdinalWithLog(Ordinal):
    """Abstract base of the kappa losses with a cross-entropy beside them."""

    def __init__(
        self,
        num_classes: int,
        log_scale: float,
        label_smoothing: float,
        log_term: str,
        power: float,
        eps: float,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(num_classes, power, eps, **options)
        self.log_scale = checks.not_negative(log_scale=log_scale)
        self.label_smoothing = checks.fraction(label_smoothing=label_smoothing)
        self.log_term = checks.one_of("log_term", log_term, ("categorical", "binary"))

    def check_values(self, probabilities: Tensor, target: Tensor) -> None:
        """Require probabilities >= 0, for "binary" also <= 1, and a target that fits the classes."""
        super().check_values(probabilities, target)
        if self.log_term == "binary":
            checks.probabilities(probabilities=probabilities)

    def labels(self, probabilities: Tensor, target: Tensor) -> Tensor:
        """Return the target as smoothed probabilities."""
        labels = class_targets.probabilities(probabilities, target)
        return labels * (1 - self.label_smoothing) + self.label_smoothing / self.num_classes

    def cross_entropy(self, p: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over the samples ("categorical"), or over the elements ("binary")."""
        if self.log_term == "categorical":
            values = (-p.clamp_min(_CLIP_EPS).log()).clamp_min(-math.log1p(-_CLIP_EPS))  # 1 - eps is 1 in float32
            return (labels * values).sum(1).mean()
        return log_loss(p.clamp(0, 1), labels, _LOG_EPS).mean()


class KappaLogLoss(OrdinalWithLog):
    r"""Minus kappa, and a cross-entropy that gives it a slope far from the goal: $-\kappa + a (L - b)$.

    $a$ = `log_scale`, $b$ = `log_offset`. `log_term` "categorical" is $L = -\frac1N \sum y \log p$; "binary" is the
    mean over all elements of $-y \log p - (1 - y) \log(1 - p)$. Smoothed labels feed both terms.
    Source: De Fauw (2015), https://github.com/JeffreyDF/kaggle_diabetic_retinopathy.

    Coming from tefla `kappa_log_loss`: `log_term="binary"`, with the actual batch size, and without its swap of labels
    and predictions in the log loss.

    >>> probabilities = torch.tensor([[0.8, 0.2], [0.4, 0.6]])
    >>> KappaLogLoss(num_classes=2)(probabilities, torch.tensor([0, 1]))
    tensor(-0.4665)
    """

    def __init__(
        self,
        num_classes: int,
        log_scale: float = 0.5,
        log_offset: float = 0.5,
        label_smoothing: float = 0.0,
        log_term: str = "categorical",
        power: float = 1.0,
        eps: float = 1e-15,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(num_classes, log_scale, label_smoothing, log_term, power, eps, **options)
        self.log_offset = checks.not_negative(log_offset=log_offset)

    def loss(self, probabilities: Tensor, target: Tensor) -> Tensor:
        """Return one value for the batch."""
        labels = self.labels(probabilities, target)
        excess = self.cross_entropy(probabilities, labels) - self.log_offset
        return self.kappa(probabilities, labels) + self.log_scale * excess


class ClippedKappaLogLoss(OrdinalWithLog):
    r"""Minus kappa, and a cross-entropy that stops pulling when it is good enough: $-\kappa + a \max(L, c)$.

    $a$ = `log_scale`, $c$ = `log_cutoff`. `log_term` "categorical" is $L = -\frac1N \sum y \log p$; "binary" is the
    mean over all elements of $-y \log p - (1 - y) \log(1 - p)$. Smoothed labels feed both terms.
    Source: De Fauw (2015), https://github.com/JeffreyDF/kaggle_diabetic_retinopathy.

    Coming from tefla `kappa_log_loss_clipped`: `log_term="binary"`, with the actual batch size.

    >>> probabilities = torch.tensor([[0.8, 0.2], [0.4, 0.6]])
    >>> ClippedKappaLogLoss(num_classes=2, log_cutoff=0.9)(probabilities, torch.tensor([0, 1]))
    tensor(0.0500)
    """

    def __init__(
        self,
        num_classes: int,
        log_scale: float = 0.5,
        log_cutoff: float = 0.8,
        label_smoothing: float = 0.0,
        log_term: str = "categorical",
        power: float = 1.0,
        eps: float = 1e-15,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(num_classes, log_scale, label_smoothing, log_term, power, eps, **options)
        self.log_cutoff = checks.not_negative(log_cutoff=log_cutoff)

    def loss(self, probabilities: Tensor, target: Tensor) -> Tensor:
        """Return one value for the batch."""
        labels = self.labels(probabilities, target)
        clipped = self.cross_entropy(probabilities, labels).clamp_min(self.log_cutoff)
        return self.kappa(probabilities, labels) + self.log_scale * clipped
