"""Slow float64 references of the losses whose values depend on several samples: all pairs, and all triplets."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lossframe import Loss
from lossframe import losses as catalogue

Values = Tensor | tuple[Tensor, Tensor]
"""Values, or values and how many elementary penalties each stands for."""


def one_hot(target: Tensor, classes: int) -> Tensor:
    return target if target.is_floating_point() else F.one_hot(target.reshape(-1), classes).double()


def unit(x: Tensor) -> Tensor:
    squares = x.square().sum(-1, keepdim=True)
    return x / torch.where(squares > 0, squares, 1).sqrt()


def cosine_distance(x: Tensor, y: Tensor) -> Tensor:
    """Return one minus the cosine, as half the square between unit vectors, which loses no digits near 0."""
    u, v = torch.broadcast_tensors(unit(x), unit(y))
    zero = (u == 0).all(-1) | (v == 0).all(-1)
    return torch.where(zero, 1 - (u * v).sum(-1), (u - v).square().sum(-1) / 2)


def root(squares: Tensor) -> Tensor:
    """Square root, whose slope at 0 is 0."""
    return torch.where(squares > 0, torch.where(squares > 0, squares, 1).sqrt(), 0)


def distance(x: Tensor, y: Tensor, kind: str) -> Tensor:
    """Return distances along the last dim; everything else is broadcast."""
    if kind == "cosine":
        return cosine_distance(x, y)
    squares = (x - y).square().sum(-1)
    return squares if kind == "squared_euclidean" else root(squares)


def pairs(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return which pairs are of one sample's class without the sample itself, and which of different classes."""
    labels = labels.reshape(-1)
    same = labels[:, None] == labels
    return same & ~torch.eye(len(x), dtype=torch.bool), ~same


def nothing(x: Tensor) -> Tensor:
    """Return a zero per row, whatever it holds."""
    return x.nan_to_num(0, 0, 0).sum(1) * 0


def averaged(sums: Tensor, number: Tensor) -> Tensor:
    """Scale sums of anchors so that their mean is the sum of all over the number of all."""
    return sums * len(sums) / number.sum().clamp_min(1)


def batch_all(c: catalogue.BatchAllTripletLoss, embeddings: Tensor, labels: Tensor) -> Tensor:
    positive, negative = pairs(embeddings, labels)
    d = distance(embeddings[:, None], embeddings, c.distance)
    triplets = positive[:, :, None] & negative[:, None]
    hinges = torch.where(triplets, (d[:, :, None] - d[:, None] + c.margin).relu(), 0)
    return averaged(hinges.sum((1, 2)), hinges > 0 if c.average == "nonzero" else triplets)


def margin(c: Any, gap: Tensor) -> Tensor:
    return F.softplus(gap) if c.soft_margin else (gap + c.margin).relu()


def batch_hard(c: catalogue.BatchHardTripletLoss, embeddings: Tensor, labels: Tensor) -> Values:
    if len(embeddings) < 2:
        return nothing(embeddings), torch.zeros(len(embeddings))
    positive, negative = pairs(embeddings, labels)
    d = distance(embeddings[:, None], embeddings, c.distance)
    valid = positive.any(1) & negative.any(1)
    gap = d.masked_fill(~positive, -math.inf).amax(1) - d.masked_fill(~negative, math.inf).amin(1)
    return margin(c, torch.where(valid, gap, 0)), valid


def semi_hard(c: catalogue.BatchSemiHardTripletLoss, embeddings: Tensor, labels: Tensor) -> Tensor:
    positive, negative = pairs(embeddings, labels)
    d = distance(embeddings[:, None], embeddings, c.distance)
    sums = [nothing(embeddings)]
    number = torch.zeros(())
    for a, p in positive.nonzero().tolist():
        others = d[a][negative[a]]
        if len(others):
            beyond = others[others > d[a, p]]
            chosen = beyond.min() if len(beyond) else others.max()
            at = torch.zeros(len(d), dtype=d.dtype)
            at[a] = 1
            sums.append(at * margin(c, d[a, p] - chosen))
            number += 1
    return averaged(torch.stack(sums).sum(0), number)


def contrastive(c: catalogue.ContrastiveLoss, embeddings: Tensor, labels: Tensor) -> Tensor:
    positive, negative = pairs(embeddings, labels)
    d = distance(embeddings[:, None], embeddings, "euclidean")
    apart = torch.where(negative, (c.margin - d).relu(), 0)
    sums = torch.where(positive, d, 0).square().sum(1) / 2 + apart.square().sum(1) / 2
    return averaged(sums, positive | negative)


def contrast(c: Any, embeddings: Tensor, labels: Tensor | None, views: Tensor | None, over_pairs: bool) -> Tensor:
    labels = torch.arange(len(embeddings)) if labels is None or (over_pairs and views is not None) else labels
    x = embeddings if views is None else torch.cat([embeddings, views])
    positive, _ = pairs(x, labels.reshape(-1) if views is None else labels.reshape(-1).repeat(2))
    if len(x) < 2:
        return nothing(x)
    u = unit(x)
    s = (u[:, None] * u).sum(-1) / c.temperature
    others = s.masked_fill(torch.eye(len(x), dtype=torch.bool), -math.inf).logsumexp(1)
    sums, number = torch.where(positive, others[:, None] - s, 0).sum(1), positive.sum(1)
    of_anchors = averaged(sums, number) if over_pairs else averaged(sums / number.clamp_min(1), number > 0)
    return of_anchors if views is None else of_anchors.reshape(2, -1).mean(0)


def nt_xent(
    c: catalogue.NTXentLoss, embeddings: Tensor, labels: Tensor | None = None, views: Tensor | None = None
) -> Tensor:
    return contrast(c, embeddings, labels, views, over_pairs=True)


def sup_con(c: catalogue.SupConLoss, embeddings: Tensor, labels: Tensor, views: Tensor | None = None) -> Tensor:
    return contrast(c, embeddings, labels, views, over_pairs=False)


def center(c: catalogue.CenterLoss, features: Tensor, labels: Tensor) -> Tensor:
    return 0.5 * (features - c.centers.double()[labels.reshape(-1)]).square().sum(1)


def triplet_margin(c: catalogue.TripletMarginLoss, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    return (distance(anchor, positive, c.distance) - distance(anchor, negative, c.distance) + c.margin).relu()


def pull_away(c: catalogue.PullAwayLoss, embeddings: Tensor) -> Values:
    u = unit(embeddings)
    cosines = (u[:, None] * u).sum(-1).masked_fill(torch.eye(len(u), dtype=torch.bool), 0)
    return (cosines.square() if c.squared else cosines).sum(1), torch.full((len(u),), len(u) - 1)


def decov(c: catalogue.DeCovLoss, features: Tensor) -> Tensor:
    rows = features.flatten(1)
    if not len(rows):
        return rows.sum()
    rows = rows - rows.mean(0)
    rows = rows - rows.mean(0)
    return (rows.T @ rows / len(rows)).triu(1).square().sum()


def roc_auc(c: catalogue.ROCAUCLoss, scores: Tensor, target: Tensor) -> Values:
    positive, flat = (target != 0).reshape(-1), scores.reshape(-1)
    valid = positive[:, None] & ~positive
    tied = flat.isinf() & (flat[:, None] == flat)
    apart = torch.where(tied, 0, flat[:, None] - flat)
    gap = torch.where(valid, c.margin - apart, 0).relu()
    sums, number = gap.pow(c.power).sum(1), valid.sum(1)
    return sums.reshape(scores.shape), number.reshape(scores.shape)


def kappa(c: Any, probabilities: Tensor, labels: Tensor) -> Tensor:
    if not len(labels):
        return probabilities.sum(1)
    p = (probabilities if c.power >= 1 else probabilities.clamp_min(c.eps)).pow(c.power)
    p = p / (p.sum(1, keepdim=True) + c.eps)
    observed, chance = p.new_zeros(()), p.new_zeros(())
    for i in range(c.num_classes):
        for j in range(c.num_classes):
            w = (i - j) ** 2 / (c.num_classes - 1) ** 2
            observed = observed + w * (p[:, i] * labels[:, j]).sum()
            chance = chance + w * p[:, i].sum() * labels[:, j].sum() / len(labels)
    return (observed / chance if chance > 0 else observed * 0) - 1


def log_term(c: Any, p: Tensor, labels: Tensor) -> Tensor:
    if not len(labels):
        return p.sum()
    if c.log_term == "categorical":
        return -(labels * p.clamp(1e-15, 1 - 1e-15).log()).sum(1).mean()
    p = p.clamp(0, 1)
    return (-labels * (p + 1e-7).log() - (1 - labels) * (1 - p + 1e-7).log()).mean()


def quadratic_kappa(c: catalogue.QuadraticWeightedKappaLoss, probabilities: Tensor, target: Tensor) -> Tensor:
    return kappa(c, probabilities, one_hot(target, c.num_classes))


def smoothed(c: Any, target: Tensor) -> Tensor:
    return one_hot(target, c.num_classes) * (1 - c.label_smoothing) + c.label_smoothing / c.num_classes


def kappa_log(c: catalogue.KappaLogLoss, probabilities: Tensor, target: Tensor) -> Tensor:
    y = smoothed(c, target)
    return kappa(c, probabilities, y) + c.log_scale * (log_term(c, probabilities, y) - c.log_offset)


def clipped_kappa_log(c: catalogue.ClippedKappaLogLoss, probabilities: Tensor, target: Tensor) -> Tensor:
    y = smoothed(c, target)
    return kappa(c, probabilities, y) + c.log_scale * log_term(c, probabilities, y).clamp_min(c.log_cutoff)


UNRESOLVED = 1e-6


def undecided(c: Loss, inputs: dict[str, Tensor]) -> bool:
    """Return whether rounding decides which triplets count, or which of them is the hardest, of a triplet loss."""
    if not hasattr(c, "margin") or not hasattr(c, "distance"):
        return False
    x = {name: t.detach().double() for name, t in inputs.items()}
    if isinstance(c, catalogue.TripletMarginLoss):
        near, far = (distance(x["anchor"], x[name], c.distance) for name in ("positive", "negative"))
        return bool(((near - far).abs() <= 1e-9 * (near + far)).any())
    positive, negative = pairs(x["embeddings"], inputs["labels"].long())
    d = distance(x["embeddings"][:, None], x["embeddings"], c.distance)
    gap, size = d[:, :, None] - d[:, None], d[:, :, None] + d[:, None]
    close = torch.minimum(gap.abs(), (gap + c.margin).abs()) <= UNRESOLVED * size
    others = ~torch.eye(len(d), dtype=torch.bool)
    return bool((close & (others[:, :, None] & others[:, None] & others) & (positive.any() & negative.any())).any())


OF_BATCHES: dict[type[Loss], Callable[..., Values]] = {
    catalogue.BatchAllTripletLoss: batch_all,
    catalogue.BatchHardTripletLoss: batch_hard,
    catalogue.BatchSemiHardTripletLoss: semi_hard,
    catalogue.CenterLoss: center,
    catalogue.ClippedKappaLogLoss: clipped_kappa_log,
    catalogue.ContrastiveLoss: contrastive,
    catalogue.DeCovLoss: decov,
    catalogue.KappaLogLoss: kappa_log,
    catalogue.NTXentLoss: nt_xent,
    catalogue.PullAwayLoss: pull_away,
    catalogue.QuadraticWeightedKappaLoss: quadratic_kappa,
    catalogue.ROCAUCLoss: roc_auc,
    catalogue.SupConLoss: sup_con,
    catalogue.TripletMarginLoss: triplet_margin,
}
