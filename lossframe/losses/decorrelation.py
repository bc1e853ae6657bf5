"""Decorrelation: samples that point elsewhere, features that vary on their own. No labels."""

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from lossframe.losses.algorithms.rows import directions
from lossframe.losses.base import checks
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.options import LossOptions
from lossframe.losses.base.tracing import is_readable

_BLOCK = 64
"""How many features at least have their covariance written out; those of other blocks meet as N x N matrices."""
_MANY = 1 << 15
"""From how many numbers on float32 is tried first."""
_DRIFT = 1e-12
"""How large the square of a rounded mean's error may be in float32, of the variance."""
_LARGEST_SHARE = 0.9
"""How much of the squared norm the diagonal may be in float32: the rest has lost one digit."""


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

    Reads `features` `[N, ...]`, flattened to `[N, D]`; one value for the batch. In $O(N D \min(N, D))$ time, and in
    float64 unless float32 is seen to be enough. Source: Cogswell (2016), https://arxiv.org/abs/1511.06068.

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
        if not rows.numel():
            return features.sum()
        number, size = rows.shape
        if rows.dtype == torch.float32 and number < size and rows.numel() > _MANY and is_readable(rows):
            value = _by_samples(rows)
            if value is not None:
                return value
        return _by_features(rows.double()).to(features.dtype)


def _by_samples(rows: Tensor) -> Tensor | None:
    """Return DeCov from an N x N matrix; None where float32 loses digits to an offset or to the diagonal."""
    centered = rows - rows.mean(0)
    gram = centered @ centered.T / len(rows)  # of the same Frobenius norm as the covariance
    variances = centered.square().mean(0)
    whole, diagonal = gram.square().sum(), variances.square().sum()
    is_centered = (centered.detach().mean(0).square() <= _DRIFT * variances.detach()).all()
    if is_centered and diagonal < _LARGEST_SHARE * whole < torch.inf:
        return 0.5 * (whole - diagonal)
    return None


def _by_features(rows: Tensor) -> Tensor:
    """Return DeCov as a sum of squares, none of which is taken away again: within blocks of features, and across."""
    number, size = rows.shape
    wide, rows = max(number, _BLOCK), rows - rows.mean(0)
    if size <= wide:
        return (rows.T @ rows / number).triu(1).square().sum()
    blocks = F.pad(rows, (0, -size % wide)).reshape(number, -1, wide).transpose(0, 1)
    within = (blocks.mT @ blocks / number).triu(1).square().sum()
    grams = blocks @ blocks.mT / number  # the covariance of two blocks has the norm <gram, gram>
    across = (grams.cumsum(0)[:-1] * grams[1:]).sum((1, 2)).clamp_min(0).sum()
    return within + across
