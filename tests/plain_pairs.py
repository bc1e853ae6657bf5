"""Slow references of metric learning: plain loops over all pairs and triplets of a batch."""

from collections.abc import Callable, Iterator
from itertools import chain, product

import pytest
import torch
from torch import Tensor

from lossframe import Loss, losses
from lossframe.losses.algorithms.rows import Distance


def between(x: Tensor, distance: str) -> Tensor:
    """Return all distances, by differences."""
    if distance == "cosine":
        x = x / x.norm(dim=1, keepdim=True)
        return 1 - (x[:, None] * x).sum(-1)
    squares = (x[:, None] - x).square().sum(-1)
    return squares if distance == "squared_euclidean" else torch.where(squares > 0, squares, 1).sqrt() * (squares > 0)


def pairs(y: list[int], same: bool) -> Iterator[tuple[int, int]]:
    return ((i, j) for i, j in product(range(len(y)), repeat=2) if i != j and (y[i] == y[j]) == same)


def mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean() if values else torch.zeros((), dtype=torch.float64)


def all_triplets(d: Tensor, y: list[int], margin: float, average: str = "nonzero") -> Tensor:
    hinges = [(d[a, p] - d[a, n] + margin).relu() for a, p in pairs(y, True) for n in range(len(y)) if y[n] != y[a]]
    return mean([h for h in hinges if h > 0] if average == "nonzero" else hinges)


def hardest_triplets(d: Tensor, y: list[int], margin: float) -> Tensor:
    values = []
    for a in range(len(y)):
        near = [d[a, p] for p in range(len(y)) if p != a and y[p] == y[a]]
        far = [d[a, n] for n in range(len(y)) if y[n] != y[a]]
        if near and far:
            values.append((max(near) - min(far) + margin).relu())
    return mean(values)


def semi_hard_triplets(d: Tensor, y: list[int], margin: float) -> Tensor:
    values = []
    for a, p in pairs(y, True):
        far = [d[a, n] for n in range(len(y)) if y[n] != y[a]]
        farther = [x for x in far if x > d[a, p]]
        if far:
            values.append((d[a, p] - (min(farther) if farther else max(far)) + margin).relu())
    return mean(values)


def contrast(d: Tensor, y: list[int], margin: float) -> Tensor:
    same, others = pairs(y, True), pairs(y, False)
    values = [d[i, j] ** 2 / 2 for i, j in same] + [(margin - d[i, j]).relu() ** 2 / 2 for i, j in others]
    return mean(values)


def softmax_contrast(x: Tensor, y: list[int], temperature: float, over_pairs: bool) -> Tensor:
    s = (1 - between(x, "cosine")) / temperature
    terms: dict[int, list[Tensor]] = {}
    for i, j in pairs(y, True):
        everyone = torch.stack([s[i, k] for k in range(len(y)) if k != i])
        terms.setdefault(i, []).append(everyone.logsumexp(0) - s[i, j])
    return mean([*chain(*terms.values())] if over_pairs else [mean(of_anchor) for of_anchor in terms.values()])


Formula = Callable[[Tensor, list[int], float], Tensor]
MINERS: list[tuple[type[Loss], Formula]] = [
    (losses.BatchAllTripletLoss, all_triplets),
    (losses.BatchHardTripletLoss, hardest_triplets),
    (losses.BatchSemiHardTripletLoss, semi_hard_triplets),
]
DISTANCES: list[Distance] = ["squared_euclidean", "euclidean", "cosine"]
FORMULAE = dict(MINERS)
every_distance = pytest.mark.parametrize("distance", DISTANCES)
every_miner = pytest.mark.parametrize("miner", FORMULAE, ids=lambda miner: miner.__name__)


def evaluate(criterion: Loss, x: Tensor, *labels: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    value = criterion(x, *labels)
    return value.detach(), torch.autograd.grad(value, x)[0]


def double(x: Tensor) -> Tensor:
    return x.double().requires_grad_()
