"""Centers: one point per class, which its samples stay close to."""

from typing import Unpack

import torch
from torch import Tensor

from lossframe.losses.base import checks, class_checks
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.options import LossOptions


class CenterLoss(Loss):
    r"""Distance to the center of one's class: $\frac12 \lVert x - c_y \rVert^2$.

    Reads `features` `[N, D]` and integer `labels` `[N]` or `[N, 1]`. In training, from the batch of all ranks,
    $c_j \leftarrow c_j - \alpha \sum_{y_i = j} (c_j - x_i) / (1 + n_j)$; the value uses the centers before it. They
    start at 0, and are the buffer `centers` `[C, D]`.
    Source: Wen (2016), https://ydwen.github.io/papers/WenECCV16.pdf.

    Coming from tefla `center_loss`: `reduction="sum"`; its centers take 1 - alpha of the whole sum, undivided.
    Coming from blog `get_center_loss`: `reduction="sum"`.

    >>> criterion = CenterLoss(num_classes=2, num_features=2)
    >>> criterion(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    tensor(0.5000)
    >>> criterion.centers
    tensor([[0.0000, 0.0000],
            [0.2500, 0.0000]])
    """

    relational = True
    class_inputs = frozenset(["labels"])
    centers: Tensor

    def __init__(self, num_classes: int, num_features: int, alpha: float = 0.5, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.num_classes = checks.at_least(1, num_classes=num_classes)
        self.num_features = checks.at_least(1, num_features=num_features)
        self.alpha = checks.fraction(alpha=alpha)
        self.register_buffer("centers", torch.zeros(num_classes, num_features))

    def check(self, features: Tensor, labels: Tensor) -> None:
        """Require `[N, num_features]` floating features and `[N]` or `[N, 1]` integer labels."""
        checks.dimensions("[N, D]", 2, 2, features=features)
        checks.floating(features=features)
        checks.size(1, self.num_features, features=features)
        class_checks.labels(labels, features=features)

    def check_values(self, features: Tensor, labels: Tensor) -> None:
        """Require labels below `num_classes`."""
        class_checks.class_indices(self.num_classes, labels=labels)

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return one value per sample."""
        apart = features - self.centers.to(features.dtype).index_select(0, labels.reshape(-1))
        return (0.5 * apart * apart).sum(1)

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Move the centers towards the batch."""
        dtype, labels = torch.promote_types(self.centers.dtype, features.dtype), labels.reshape(-1)
        features, centers = features.to(dtype), self.centers.to(dtype)
        number = torch.zeros_like(centers[:, 0]).index_add_(0, labels, torch.ones_like(features[:, 0]))
        pull = torch.zeros_like(centers).index_add_(0, labels, centers[labels] - features)
        self.centers -= (self.alpha * pull / (1 + number)[:, None]).to(self.centers.dtype)
