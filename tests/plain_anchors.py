"""Plain references of what the losses over pairs and triplets record: a value per anchor, and how much it counts."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lossframe import Loss, losses


def _distances(x: Tensor) -> Tensor:
    return (x[:, None] - x).square().sum(2)


def _partners(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return which pairs are positives, and which are negatives."""
    same, itself = labels[:, None] == labels, torch.eye(len(labels), dtype=torch.bool)
    return same & ~itself, ~same


def batch_all(c: Any, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    d, (positive, negative) = _distances(embeddings), _partners(labels)
    valid = positive[:, :, None] & negative[:, None]
    hinges = torch.where(valid, (d[:, :, None] - d[:, None] + c.margin).relu(), 0)
    averaged = (hinges > 0) if c.average == "nonzero" else valid
    return hinges.sum((1, 2)), averaged.sum((1, 2)), valid.any(2).any(1)


def semi_hard(c: Any, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    d, (positive, negative) = _distances(embeddings), _partners(labels)
    sums, numbers = embeddings.new_zeros(len(labels)), torch.zeros(len(labels))
    for a, p in positive.nonzero().tolist():
        others = d[a][negative[a]]
        if len(others):
            beyond = others[others > d[a, p]]
            gap = d[a, p] - (beyond.min() if len(beyond) else others.max())
            sums[a] += F.softplus(gap) if c.soft_margin else (gap + c.margin).relu()
            numbers[a] += 1
    return sums, numbers, numbers > 0


def contrastive(c: Any, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    d, (positive, negative) = _distances(embeddings).sqrt(), _partners(labels)
    values = torch.where(positive, d, torch.where(negative, (c.margin - d).relu(), 0)).square().sum(1) / 2
    numbers = torch.full((len(labels),), len(labels) - 1.0)
    return values, numbers, numbers > 0


def softmax_contrast(
    c: Any, embeddings: Tensor, labels: Tensor | None = None, views: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    over_pairs, n = isinstance(c, losses.NTXentLoss), len(embeddings)
    labels = torch.arange(n) if labels is None or (over_pairs and views is not None) else labels
    x = F.normalize(embeddings if views is None else torch.cat([embeddings, views]), dim=1)
    positive, _ = _partners(labels if views is None else torch.cat([labels, labels]))
    similarities = (x @ x.T / c.temperature).masked_fill(torch.eye(len(x), dtype=torch.bool), -1e300)
    log_p = -similarities.log_softmax(1) if len(x) else similarities
    sums, numbers = torch.where(positive, log_p, 0).sum(1), positive.sum(1)
    if not over_pairs:
        sums, numbers = sums / numbers.clamp_min(1), (numbers > 0).long()
    sums, numbers = (each.reshape(-1, n).sum(0) for each in (sums, numbers))
    return sums, numbers, numbers > 0


OF_ANCHORS: dict[type[Loss], Callable[..., tuple[Tensor, Tensor, Tensor]]] = {
    losses.BatchAllTripletLoss: batch_all,
    losses.BatchSemiHardTripletLoss: semi_hard,
    losses.ContrastiveLoss: contrastive,
    losses.NTXentLoss: softmax_contrast,
    losses.SupConLoss: softmax_contrast,
}


def standing(criterion: Any, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the mean penalty of each anchor, and counts that sum to the number of anchors that have partners."""
    sums, numbers, present = OF_ANCHORS[type(criterion)](criterion, **inputs)
    numbers = numbers.double()
    if not numbers.sum():
        return sums, present.double()
    return sums / numbers.clamp_min(1), numbers * present.sum() / numbers.sum()
