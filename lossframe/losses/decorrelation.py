"""Decorrelation: samples that point elsewhere, features that vary on their own. No labels."""

from typing import Unpack

import torch
from torch import Tensor

from lossframe import checks
from lossframe.functional.rows import directions
from lossframe.loss import Loss, LossOptions


class PullAwayLoss(Loss):
    r"""Samples should point into different directions: the mean of $\cos_{ij}^2$ over the pairs $i \ne j$.

    Reads `embeddings` `[N, D]`; one value per sample, the sum over its partners. `squared=False` averages $\cos_{ij}$
    instead. In $O(N D \min(N, D))$ time.
    Source: Zhao (2017), https://arxiv.org/abs/1609.03126.

    Coming from tefla `pullaway_loss`: `squared=False`; the paper squares the cosines, so that opposites cost too.

    >>> PullAwayLoss()(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    tensor(0.5000)
    """

    relational = True

    def __init__(self, squared: bool = True, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.squared = squared

    def check(self, embeddings: Tensor) -> None:
        """Require `[N, D]` floating embeddings."""
        checks.dimensions("[N, D]", 2, 2, embeddings=embeddings)
        checks.floating(embeddings=embeddings)

    def loss(self, embeddings: Tensor) -> Tensor:
        """Return one value per sample."""
        rows = directions(embeddings)
        if self.squared and len(rows) <= 2 * rows.shape[1]:
            cosines = (rows @ rows.T).clamp(-1, 1)
            itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
            return torch.where(itself, 0, cosines).square().sum(1).to(embeddings.dtype)
        rows = rows.double()  # a row's product with itself is subtracted
        lengths = rows.square().sum(1)
        if not self.squared:
            return (rows @ rows.sum(0) - lengths).to(embeddings.dtype)
        return ((rows @ (rows.T @ rows) * rows).sum(1) - lengths.square()).relu().to(embeddings.dtype)

    def counts(self, embeddings: Tensor) -> Tensor:
        """Count the partners of each sample."""
        return embeddings.new_full((len(embeddings),), len(embeddings) - 1)


class DeCovLoss(Loss):
    r"""Features should not covary: $\frac12 (\lVert C \rVert_F^2 - \lVert \mathrm{diag}\, C \rVert^2)$, with the biased
    covariance $C$ over the batch.

    Reads `features` `[N, ...]`, flattened to `[N, D]`; one value for the batch. Works on an $N \times N$ matrix where
    $N < D$. Source: Cogswell (2016), https://arxiv.org/abs/1511.06068.

    Coming from tefla `decov_loss`: the same.

    >>> DeCovLoss()(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor(1.)
    """

    relational = True
    per_sample = False

    def check(self, features: Tensor) -> None:
        """Require floating features `[N, ...]`."""
        checks.dimensions("[N, ...]", 2, None, features=features)
        checks.floating(features=features)

    def loss(self, features: Tensor) -> Tensor:
        """Return one value."""
        rows = features.flatten(1)
        if not len(rows):
            return rows.sum()
        number, rows = len(rows), rows - rows.mean(0)
        if number >= rows.shape[1]:
            covariance: Tensor = rows.T @ rows / number
            return covariance.triu(1).square().sum()
        gram: Tensor = rows @ rows.T / number  # of the same Frobenius norm
        return 0.5 * (gram.square().sum() - rows.square().mean(0).square().sum())
