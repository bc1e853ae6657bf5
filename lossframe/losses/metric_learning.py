"""Metric learning: what pulls samples of a class together and pushes classes apart.

Most read `embeddings` `[N, D]` and integer `labels` `[N]` or `[N, 1]`, and are relational: on several ranks they see
the embeddings of all. Each gives one value per sample, as an anchor against the rest of the batch.
"""

from typing import Unpack

import torch
from torch import Tensor

from lossframe import checks
from lossframe.functional import triplets
from lossframe.functional.distances import PAIRWISE, Distance, centered, check_distance, rowwise
from lossframe.loss import Loss, LossOptions
from lossframe.reduction import divide


class MetricLearning(Loss):
    """Abstract base of the losses on embeddings and labels."""

    relational = True

    def check(self, embeddings: Tensor, labels: Tensor) -> None:
        """Require `[N, D]` floating embeddings and `[N]` or `[N, 1]` integer labels."""
        checks.dimensions("[N, D]", 2, 2, embeddings=embeddings)
        checks.floating(embeddings=embeddings)
        checks.labels(len(embeddings), labels=labels)

    def check_values(self, embeddings: Tensor, labels: Tensor) -> None:
        """Require nothing of the values: any label is a class."""


class TripletMarginLoss(Loss):
    r"""Triplets given row by row: $\max(0, d(a, p) - d(a, n) + m)$.

    Reads `anchor`, `positive`, `negative`, each `[N, D]`. `distance` is "squared_euclidean", "euclidean" or "cosine".
    Source: Schroff (2015), https://arxiv.org/abs/1503.03832; tefla `triplet_loss`.

    >>> a, p, n = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    >>> TripletMarginLoss(margin=0.5)(a, p, n)
    tensor(0.5000)
    """

    def __init__(
        self, margin: float = 0.2, distance: Distance = "squared_euclidean", **options: Unpack[LossOptions]
    ) -> None:
        super().__init__(**options)
        self.margin = margin
        self.distance = check_distance(distance)

    def check(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> None:
        """Require three floating `[N, D]` of one shape."""
        checks.dimensions("[N, D]", 2, 2, anchor=anchor, positive=positive, negative=negative)
        checks.floating(anchor=anchor, positive=positive, negative=negative)
        checks.same_shape(anchor=anchor, positive=positive, negative=negative)

    def loss(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Return one value per row."""
        gap = rowwise(anchor, positive, self.distance) - rowwise(anchor, negative, self.distance)
        return (gap + self.margin).relu()


class BatchAllTripletLoss(MetricLearning):
    r"""All triplets of the batch: the mean of $\max(0, d(a, p) - d(a, n) + m)$ where $y_a = y_p \ne y_n$.

    Exact, in $O(N^2 \log N)$ time. `average` is over the triplets with a positive loss ("nonzero"), or over all
    ("all"). The values are the anchors' sums of hinges, scaled so that their mean is that average. Remembers
    `active_triplets`, the share of triplets with a positive loss. A batch without triplets is a zero with gradient.
    Source: Hermans (2017), https://arxiv.org/abs/1703.07737.

    >>> embeddings = torch.tensor([[0.0], [1.0], [1.0]])
    >>> BatchAllTripletLoss(margin=0.5)(embeddings, torch.tensor([0, 0, 1]))
    tensor(1.)
    """

    def __init__(
        self,
        margin: float = 0.2,
        distance: Distance = "squared_euclidean",
        average: str = "nonzero",
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.margin = margin
        self.distance = check_distance(distance)
        self.average = checks.one_of("average", average, ("nonzero", "all"))

    def loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return one value per anchor."""
        sums, active = triplets.anchor_sums(
            centered(embeddings), labels.reshape(-1), self.margin, PAIRWISE[self.distance]
        )
        existing = triplets.number(labels.reshape(-1))
        self.log("active_triplets", divide(active.sum(), existing))
        averaged = active.sum() if self.average == "nonzero" else existing
        return sums * divide(torch.full_like(averaged, len(sums)), averaged).to(sums.dtype)


class BatchHardTripletLoss(MetricLearning):
    r"""The hardest triplet of each anchor: $\max(0, \max_p d(a, p) - \min_n d(a, n) + m)$.

    `soft_margin=True` replaces the hinge by $\log(1 + \exp(\cdot))$, without a margin. Anchors that lack a positive or
    a negative do not count. Source: Hermans (2017), https://arxiv.org/abs/1703.07737.

    >>> embeddings = torch.tensor([[0.0], [1.0], [3.0], [3.5]])
    >>> BatchHardTripletLoss(margin=4.0)(embeddings, torch.tensor([0, 0, 1, 1]))
    tensor(0.3125)
    """

    def __init__(
        self,
        margin: float = 0.2,
        distance: Distance = "squared_euclidean",
        soft_margin: bool = False,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.margin = margin
        self.distance = check_distance(distance)
        self.soft_margin = soft_margin

    def loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return one value per anchor."""
        if not len(embeddings):
            return embeddings.sum(1)
        positive, negative = triplets.hardest(embeddings.detach(), labels.reshape(-1), PAIRWISE[self.distance])
        gap = rowwise(embeddings, embeddings[positive], self.distance) - rowwise(
            embeddings, embeddings[negative], self.distance
        )
        return torch.nn.functional.softplus(gap) if self.soft_margin else (gap + self.margin).relu()

    def counts(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Count the anchors that have both a positive and a negative."""
        same = triplets.same_label_counts(labels.reshape(-1))
        return (same > 1) & (same < len(labels))


class ContrastiveLoss(MetricLearning):
    r"""Pairs of the batch: $\frac12 d^2$ for a pair of one class, $\frac12 \max(0, m - d)^2$ for two classes.

    $d$ is the Euclidean distance. "mean" is over the ordered pairs; a value is the sum over an anchor's pairs.
    Source: Hadsell (2006), http://yann.lecun.com/exdb/publis/pdf/hadsell-chopra-lecun-06.pdf.

    >>> embeddings = torch.tensor([[0.0], [1.0], [1.5]])
    >>> ContrastiveLoss(margin=1.0)(embeddings, torch.tensor([0, 0, 1]))
    tensor(0.2083)
    """

    def __init__(self, margin: float = 1.0, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.margin = checks.positive(margin=margin)

    def loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return one value per anchor: the sum over its partners."""
        same = labels.reshape(-1, 1) == labels.reshape(1, -1)
        distances = PAIRWISE["euclidean"](embeddings, embeddings)
        apart = (self.margin - distances).relu().square()
        return 0.5 * torch.where(same, distances.square(), apart).sum(1)

    def counts(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Count the partners of each anchor."""
        return torch.full_like(embeddings[:, 0], len(embeddings) - 1)


class CenterLoss(Loss):
    r"""Distance to the center of one's class: $\frac12 \lVert x - c_y \rVert^2$.

    Reads `features` `[N, D]` and integer `labels` `[N]` or `[N, 1]`. In training, from the batch of all ranks,
    $c_j \leftarrow c_j - \alpha \sum_{y_i = j} (c_j - x_i) / (1 + n_j)$; the value uses the centers before it. They
    start at 0, and are the buffer `centers` `[C, D]`.
    Source: Wen (2016), https://ydwen.github.io/papers/WenECCV16.pdf.

    >>> criterion = CenterLoss(num_classes=2, num_features=2)
    >>> criterion(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    tensor(0.5000)
    >>> criterion.centers
    tensor([[0.0000, 0.0000],
            [0.2500, 0.0000]])
    """

    relational = True
    centers: Tensor

    def __init__(self, num_classes: int, num_features: int, alpha: float = 0.5, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.num_classes = num_classes
        self.num_features = num_features
        self.alpha = alpha
        self.register_buffer("centers", torch.zeros(num_classes, num_features))

    def check(self, features: Tensor, labels: Tensor) -> None:
        """Require `[N, num_features]` floating features and `[N]` or `[N, 1]` integer labels."""
        checks.dimensions("[N, D]", 2, 2, features=features)
        checks.floating(features=features)
        checks.size(1, self.num_features, features=features)
        checks.labels(len(features), labels=labels)

    def check_values(self, features: Tensor, labels: Tensor) -> None:
        """Require labels below `num_classes`."""
        checks.class_indices(self.num_classes, labels=labels)

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return one value per sample."""
        return 0.5 * (features - self.centers.to(features.dtype)[labels.reshape(-1)]).square().sum(1)

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Move the centers towards the batch."""
        labels = labels.reshape(-1)
        centers = self.centers.to(features.dtype)
        number = torch.zeros_like(centers[:, 0]).index_add_(0, labels, torch.ones_like(features[:, 0]))
        pull = torch.zeros_like(centers).index_add_(0, labels, centers[labels] - features)
        self.centers -= (self.alpha * pull / (1 + number)[:, None]).to(self.centers.dtype)
