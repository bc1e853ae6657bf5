"""Triplets: an anchor should be nearer to a positive, of its class, than to a negative, by a margin.

`distance` is "squared_euclidean", "euclidean" or "cosine", which is one minus the cosine. A triplet exactly at the
margin costs nothing, and does not count as active.
"""

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from lossframe.losses.algorithms import triplets
from lossframe.losses.algorithms.anchorwise import anchorwise
from lossframe.losses.algorithms.distances import check_distance, prepared
from lossframe.losses.algorithms.label_groups import Partners
from lossframe.losses.algorithms.rows import Distance, gaps
from lossframe.losses.base import checks
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.options import LossOptions
from lossframe.losses.base.reduction import divide
from lossframe.losses.metric_learning import MetricLearning


class TripletMarginLoss(Loss):
    r"""Triplets given row by row: $\max(0, d(a, p) - d(a, n) + m)$.

    Reads `anchor`, `positive`, `negative`, each `[N, D]`. `distance` is "squared_euclidean", "euclidean" or "cosine".
    Source: Schroff (2015), https://arxiv.org/abs/1503.03832.

    Coming from tefla `triplet_loss`: the same; `alpha` is `margin`.
    Coming from blog `compute_triplet_loss`: a hinge a row; there one a batch, in which easy rows hide hard ones.

    >>> a, p, n = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    >>> TripletMarginLoss(margin=0.5)(a, p, n)
    tensor(0.5000)
    """

    core_dims = (1,)

    def __init__(
        self, margin: float = 0.2, distance: Distance = "squared_euclidean", **options: Unpack[LossOptions]
    ) -> None:
        super().__init__(**options)
        self.margin = checks.not_negative(margin=margin)
        self.distance = check_distance(distance)

    def check(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> None:
        """Require three floating `[N, D]` of one shape."""
        checks.dimensions("[N, D]", 2, 2, anchor=anchor, positive=positive, negative=negative)
        checks.floating(anchor=anchor, positive=positive, negative=negative)
        checks.same_shape(anchor=anchor, positive=positive, negative=negative)

    def loss(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Return one value per row."""
        gap = gaps(anchor, positive, negative, self.distance)
        return (gap + self.margin).relu().to(anchor.dtype)


class BatchAllTripletLoss(MetricLearning):
    r"""All triplets of the batch: the mean of $\max(0, d(a, p) - d(a, n) + m)$ where $y_a = y_p \ne y_n$.

    Exact, in $O(N^2 \log N)$ time. `average` is over the triplets with a positive loss ("nonzero"), or over all
    ("all"). The values are the anchors' sums of hinges, scaled so that their mean is that average. Records
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
        self.margin = checks.not_negative(margin=margin)
        self.distance = check_distance(distance)
        self.average = checks.one_of("average", average, ("nonzero", "all"))

    def loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return one value per anchor."""
        partners = Partners(labels)
        samples, pairwise = prepared(embeddings, self.distance)

        def of_anchors(anchors: Tensor, everyone: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            distances = pairwise(anchors, everyone, rows)
            sums, active = triplets.hinges(distances, partners, rows, self.margin)
            averaged = active if self.average == "nonzero" else partners.triplets[rows]
            return sums, torch.stack([averaged, active], 1)

        values, numbers = anchorwise(of_anchors, samples, self.anchors)
        possible = partners.triplets[: self.anchors]
        number = possible.sum()
        self.log("active_triplets", divide(numbers[:, 1].sum(), number), count=number)
        self.averaged_over(numbers[:, 0], possible > 0)
        return values.to(embeddings.dtype)


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
        self.margin = checks.not_negative(margin=margin)
        self.distance = check_distance(distance)
        self.soft_margin = soft_margin

    def loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return one value per anchor."""
        if not len(embeddings):
            return embeddings.sum(1)
        positive, negative = triplets.hardest(
            *prepared(embeddings.detach(), self.distance), Partners(labels), self.anchors
        )
        gap = gaps(embeddings[: self.anchors], embeddings[positive], embeddings[negative], self.distance)
        return (F.softplus(gap) if self.soft_margin else (gap + self.margin).relu()).to(embeddings.dtype)

    def counts(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Count the anchors that have both a positive and a negative."""
        return Partners(labels).triplets[: self.anchors] > 0


class BatchSemiHardTripletLoss(MetricLearning):
    r"""For each anchor and positive the semi-hard negative: $\max(0, d(a, p) - d(a, n) + m)$, averaged over pairs.

    $n$ is the nearest negative with $d(a, n) > d(a, p)$; where there is none, the farthest negative (the reading of
    TensorFlow Addons' `TripletSemiHardLoss`). `soft_margin=True` replaces the hinge by $\log(1 + \exp(\cdot))$, without
    a margin. Pairs whose anchor has no negative do not count.
    Source: Schroff (2015), https://arxiv.org/abs/1503.03832, section 3.2.

    >>> embeddings = torch.tensor([[0.0], [1.0], [1.5], [3.0]])
    >>> BatchSemiHardTripletLoss(margin=2.0)(embeddings, torch.tensor([0, 0, 1, 1]))
    tensor(0.7500)
    """

    def __init__(
        self,
        margin: float = 0.2,
        distance: Distance = "squared_euclidean",
        soft_margin: bool = False,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.margin = checks.not_negative(margin=margin)
        self.distance = check_distance(distance)
        self.soft_margin = soft_margin

    def loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return one value per anchor."""
        partners = Partners(labels)
        samples, pairwise = prepared(embeddings, self.distance)

        def of_anchors(anchors: Tensor, everyone: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            distances = pairwise(anchors, everyone, rows)
            gap, valid = triplets.semi_hard(distances, partners, rows)
            values = F.softplus(gap) if self.soft_margin else (gap + self.margin).relu()
            return torch.where(valid, values, 0).sum(1), valid.sum(1)

        values, numbers = anchorwise(of_anchors, samples, self.anchors)
        self.averaged_over(numbers)
        return values.to(embeddings.dtype)
