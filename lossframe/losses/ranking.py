"""Ranking: positives should score above negatives."""

from typing import Unpack

from torch import Tensor

from lossframe.losses.algorithms.ranking import pair_sums
from lossframe.losses.base import checks
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.options import LossOptions


class ROCAUCLoss(Loss):
    r"""A smooth area over the ROC curve: $\max(0, m - (s_i - s_j))^k$ for every positive $i$ and negative $j$.

    Reads `scores` `[N]` or `[N, C]`, whose columns are pooled, and `target` of their shape: what is not 0 is positive.
    "mean" is over all pairs; a value is the sum over a positive's pairs. $m$ = `margin`, $k$ = `power`, a whole number.
    A weight weighs the pairs of a positive. Equal infinite scores are tied. Exact, in $O(N \log N)$ time. Without a
    positive, or a negative, it is a zero with gradient.
    Source: Yan (2003), https://cdn.aaai.org/ICML/2003/ICML03-110.pdf.

    Coming from tflearn `roc_auc_score`: `reduction="sum"`; it too is a loss, not a score.

    >>> import torch
    >>> ROCAUCLoss(margin=0.5, power=2)(torch.tensor([0.5, 0.25, 0.0]), torch.tensor([1, 0, 0]))
    tensor(0.0312)
    """

    relational = True

    def __init__(self, margin: float = 0.2, power: int = 3, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.margin = checks.positive(margin=margin)
        self.power = checks.at_least(1, power=power)

    def check(self, scores: Tensor, target: Tensor) -> None:
        """Require floating scores `[N]` or `[N, C]`, and a target of their shape."""
        checks.dimensions("[N] or [N, C]", 1, 2, scores=scores)
        checks.elementwise(target, scores=scores)

    def check_values(self, scores: Tensor, target: Tensor) -> None:
        """Require a target without NaN."""
        checks.finite(target=target)

    def loss(self, scores: Tensor, target: Tensor) -> Tensor:
        """Return one value per positive: the sum over its pairs; 0 for negatives."""
        positive = target != 0
        sums = pair_sums(scores.reshape(-1), positive.reshape(-1), self.margin, self.power)
        return sums.reshape(scores.shape)

    def counts(self, scores: Tensor, target: Tensor) -> Tensor:
        """Count the pairs of each positive."""
        positive = target != 0
        return positive * (~positive).sum()
