"""Metric learning: what pulls samples of a class together and pushes classes apart.

Most read `embeddings` `[N, D]` and integer `labels` `[N]` or `[N, 1]`, and are relational: on several ranks they see
the embeddings of all. Each gives one value per sample, as an anchor against the rest of the batch, scaled so that the
mean of the values is the average that the formula speaks of. Statistics hold the mean penalty of each anchor over its
own pairs or triplets, counted by their number; anchors without any are not recorded.
"""

from typing import ClassVar

from torch import Tensor

from lossframe.losses.base import class_checks
from lossframe.losses.base.loss import Loss


class MetricLearning(Loss):
    """Abstract base of the losses on embeddings and labels."""

    relational = True
    class_inputs = frozenset(["labels"])
    second: ClassVar[str] = ""
    """What to do about a second tensor of embeddings in place of labels, apart from stacking both."""
    anchors: int | None = None
    """Number of first rows that are anchors, with one value each; the others are only compared with. None: all."""

    def check(self, embeddings: Tensor, labels: Tensor) -> None:
        """Require `[N, D]` floating embeddings and `[N]` or `[N, 1]` integer labels."""
        class_checks.rows_of_views(embeddings=embeddings)
        class_checks.labels(labels, self.second, embeddings=embeddings)

    def check_values(self, embeddings: Tensor, labels: Tensor) -> None:
        """Require nothing of the values: any label is a class."""
