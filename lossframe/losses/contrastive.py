"""Contrast: samples of a class, or views of one image, should be more alike than others."""

from typing import Unpack

import torch
from torch import Tensor

from lossframe.errors import InputError
from lossframe.losses.algorithms.anchorwise import anchorwise
from lossframe.losses.algorithms.class_targets import without_absent
from lossframe.losses.algorithms.distances import prepared
from lossframe.losses.algorithms.label_groups import Partners
from lossframe.losses.algorithms.rows import directions
from lossframe.losses.base import checks, class_checks
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.options import LossOptions
from lossframe.losses.metric_learning import MetricLearning


class ContrastiveLoss(MetricLearning):
    r"""Pairs of the batch: $\frac12 d^2$ for a pair of one class, $\frac12 \max(0, m - d)^2$ for two classes.

    $d$ is the Euclidean distance; the average is over the pairs.
    Source: Hadsell (2006), http://yann.lecun.com/exdb/publis/pdf/hadsell-chopra-lecun-06.pdf.

    >>> embeddings = torch.tensor([[0.0], [1.0], [1.5]])
    >>> ContrastiveLoss(margin=1.0)(embeddings, torch.tensor([0, 0, 1]))
    tensor(0.2083)
    """

    def __init__(self, margin: float = 1.0, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.margin = checks.positive(margin=margin)

    def loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return one value per anchor."""
        labels = labels.reshape(-1)
        samples, pairwise = prepared(embeddings, "euclidean")

        def of_anchors(anchors: Tensor, everyone: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            distances = pairwise(anchors, everyone, rows)
            gap = torch.where(labels[rows, None] == labels, distances, self.margin - distances).relu()
            sums = torch.linalg.vecdot(gap, gap) / 2
            return sums, torch.full_like(sums.detach(), len(labels) - 1)

        values, numbers = anchorwise(of_anchors, samples, self.anchors)
        self.averaged_over(numbers)
        return values.to(embeddings.dtype)


class PairContrastiveLoss(Loss):
    r"""Pairs given by their distance: $\frac12 (y\, d^2 + (1 - y) \max(0, m - d)^2)$.

    Reads `distance`, of any shape, and `target` of that shape: 1 for a pair of one class, 0 for two classes.
    Source: Hadsell (2006), http://yann.lecun.com/exdb/publis/pdf/hadsell-chopra-lecun-06.pdf.

    Coming from tflearn `contrastive_loss`: `reduction="sum"`.

    >>> PairContrastiveLoss(margin=1.0)(torch.tensor([0.5, 0.5]), torch.tensor([1, 0]))
    tensor(0.1250)
    """

    core_dims = ()

    def __init__(self, margin: float = 1.0, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.margin = checks.positive(margin=margin)

    def check(self, distance: Tensor, target: Tensor) -> None:
        """Require floating distances, and a target of their shape."""
        checks.elementwise(target, distance=distance)

    def check_values(self, distance: Tensor, target: Tensor) -> None:
        """Require targets within [0, 1]."""
        checks.probabilities(target=target)

    def loss(self, distance: Tensor, target: Tensor) -> Tensor:
        """Return one value per pair."""
        same, gap = target.to(distance.dtype), (self.margin - distance).relu()
        distance, gap = without_absent(distance, same), without_absent(gap, 1 - same)
        # the weights come before the squares, which may overflow
        return (0.5 * same * distance) * distance + (0.5 * (1 - same) * gap) * gap


class SoftmaxContrast(MetricLearning):
    """Abstract base of the losses on the softmax over everyone else, of cosine similarity over a temperature.

    Reads `embeddings` `[N, D]`, and optionally `views` `[N, D]`: a second view of each sample, row by row, which takes
    part as a sample of its own. Samples without a positive are no anchors.
    """

    second = "pass the second view of each sample as views=..., or "

    def __init__(self, temperature: float = 0.1, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.temperature = checks.positive(temperature=temperature)

    def check(self, embeddings: Tensor, labels: Tensor | None = None, views: Tensor | None = None) -> None:
        """Require `[N, D]` floating embeddings, and views of that shape, integer labels `[N]` or `[N, 1]`, or both."""
        if labels is None and views is None:
            raise InputError(
                "wanted 'labels' or 'views' beside 'embeddings', found neither; views=... are second views"
            )
        class_checks.rows_of_views(embeddings=embeddings)
        super().check(embeddings, torch.arange(len(embeddings)) if labels is None else labels)
        if views is not None:
            checks.floating(views=views)
            checks.same_shape(embeddings=embeddings, views=views)

    def check_values(self, embeddings: Tensor, labels: Tensor | None = None, views: Tensor | None = None) -> None:
        """Require nothing of the values: any label is a class."""

    def contrast(self, embeddings: Tensor, labels: Tensor | None, views: Tensor | None, over_pairs: bool) -> Tensor:
        """Return one value per sample, averaged over the pairs of an anchor and a positive, or over the anchors.

        Without labels, the positive of a sample is its other view alone.
        """
        labels = torch.arange(len(embeddings), device=embeddings.device) if labels is None else labels.reshape(-1)
        samples = embeddings if views is None else torch.cat([embeddings, views])
        partners = Partners(labels if views is None else torch.cat([labels, labels]))

        def of_anchors(anchors: Tensor, everyone: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            sums, number = _softmax_sums((anchors / self.temperature) @ everyone.T, partners, rows)
            return (sums, number) if over_pairs else (sums / number.clamp_min(1), number > 0)

        values, numbers = anchorwise(of_anchors, directions(samples), self.anchors)
        if views is not None:
            values, numbers = values.reshape(2, -1).mean(0), numbers.reshape(2, -1).sum(0)
        self.averaged_over(numbers)
        return values.to(embeddings.dtype)


class NTXentLoss(SoftmaxContrast):
    r"""Two views of a sample against all others, $-\log \frac{\exp(s_{ij} / \tau)}{\sum_{k \ne i} \exp(s_{ik} / \tau)}$

    $s$ is the cosine, and the average is over the pairs $i, j$ of views of one sample. Reads `embeddings` `[N, D]` and
    either `views` `[N, D]`, the second views row by row, which then decide alone, or integer `labels` `[N]` or
    `[N, 1]`: rows of one label are views of one sample. Of more than two views all others are in the denominator;
    pytorch-metric-learning leaves out the other positives.
    Source: Chen (2020), https://arxiv.org/abs/2002.05709.

    >>> embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> NTXentLoss(temperature=0.5)(embeddings, views=embeddings)
    tensor(0.2395)
    """

    def loss(self, embeddings: Tensor, labels: Tensor | None = None, views: Tensor | None = None) -> Tensor:
        """Return one value per sample."""
        return self.contrast(embeddings, labels if views is None else None, views, over_pairs=True)


class SupConLoss(SoftmaxContrast):
    r"""Samples of a class against all: $-\frac1{\lvert P_i \rvert} \sum_{p \in P_i}
    \log \frac{\exp(s_{ip} / \tau)}{\sum_{k \ne i} \exp(s_{ik} / \tau)}$.

    $s$ is the cosine, $P_i$ the other samples of the class of $i$ ($L^{sup}_{out}$); the average is over the samples
    that have any. Reads `embeddings` `[N, D]`, and integer `labels` `[N]` or `[N, 1]`, or second views `[N, D]` row by
    row as `views`, or both. Without labels, the positive of a sample is its other view, as in SimCLR.
    Source: Khosla (2020), https://arxiv.org/abs/2004.11362.

    >>> embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> SupConLoss(temperature=0.5)(embeddings, torch.tensor([0, 0, 1]))
    tensor(0.1269)
    """

    def loss(self, embeddings: Tensor, labels: Tensor | None = None, views: Tensor | None = None) -> Tensor:
        """Return one value per sample."""
        return self.contrast(embeddings, labels, views, over_pairs=False)


def _softmax_sums(similarities: Tensor, partners: Partners, rows: slice) -> tuple[Tensor, Tensor]:
    r"""Return $-\sum_p \log \frac{\exp s_{ap}}{\sum_{k \ne a} \exp s_{ak}}$ of each anchor, and how many $p$ it has.

    `similarities` is `[B, N]`, of the anchors in `rows` to everyone; those to themselves are lost.
    """
    columns, positive = partners.of(rows)
    number = positive.sum(1)
    if not similarities.numel():
        return similarities.sum(1), number
    itself = torch.arange(rows.start, rows.stop, device=similarities.device)[:, None]
    # not -inf: a batch of one sample has a sum over nobody, whose gradient would be NaN
    others = similarities.scatter_(1, itself, torch.finfo(similarities.dtype).min)
    lowest, nearest = torch.finfo(others.dtype).min, others.detach().argmax(1, keepdim=True)
    # relative to the largest, whose own term is a 1 before the logarithm: then no two terms cancel
    behind = (others - others.gather(1, nearest)).scatter_(1, nearest, lowest)
    excess = behind.exp().sum(1).log1p()
    of_positives = torch.where(positive & (columns != nearest), behind.gather(1, columns), 0).sum(1)
    return number * excess - of_positives, number
