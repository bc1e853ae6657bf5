"""Losses over pairs of scores, and over all entries of a covariance, against the forms that hold every pair."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.cases import Case, Contestant, Step, at_sizes
from lossframe import losses

Inputs = tuple[Tensor, ...]
Give = Callable[[int, torch.device], Inputs]
FEATURES = 128


def scored(size: int, device: torch.device) -> Inputs:
    """Return scores, and a target."""
    return torch.randn(size, device=device, requires_grad=True), torch.randint(0, 2, (size,), device=device)


def graded(size: int, device: torch.device) -> Inputs:
    """Return probabilities of 5 grades, and a target."""
    probabilities = torch.randn(size, 5, device=device).softmax(1).requires_grad_()
    return probabilities, torch.randint(0, 5, (size,), device=device)


def tall(size: int, device: torch.device) -> Inputs:
    """Return many samples of few features."""
    return (torch.randn(size, FEATURES, device=device, requires_grad=True),)


def wide(size: int, device: torch.device) -> Inputs:
    """Return few samples of many features."""
    return (torch.randn(FEATURES, size, device=device, requires_grad=True),)


def ours(size: int, device: torch.device, name: str, inputs: Give, **options: Any) -> Step:
    """Prepare forward and backward of one of our losses."""
    criterion, given = getattr(losses, name)(**options), inputs(size, device)
    return lambda: criterion(*given).backward()


def plainly(size: int, device: torch.device, formula: Callable[..., Tensor], inputs: Give) -> Step:
    """Prepare forward and backward of a formula."""
    given = inputs(size, device)
    return lambda: formula(*given).backward()


def sort(size: int, device: torch.device) -> Step:
    """Prepare sorting the scores, without gradient."""
    scores = scored(size, device)[0].detach()
    return scores.sort


def pairwise_area(scores: Tensor, target: Tensor) -> Tensor:
    """Return the ROC area loss over a matrix of all pairs."""
    return (0.2 - (scores[target != 0, None] - scores[target == 0])).relu().pow(3).mean()


def pairwise_pull_away(embeddings: Tensor) -> Tensor:
    """Return the mean squared cosine over a matrix of all pairs of samples."""
    rows = F.normalize(embeddings)
    return (rows @ rows.T).square().fill_diagonal_(0).sum() / (len(rows) * (len(rows) - 1))


def whole_covariance(features: Tensor) -> Tensor:
    """Return DeCov over a matrix of all pairs of features."""
    return torch.cov(features.T, correction=0).fill_diagonal_(0).square().sum() / 2


def whole_kappa(probabilities: Tensor, target: Tensor) -> Tensor:
    """Return quadratic weighted kappa from the counts of all pairs of grades."""
    grades = torch.arange(5.0, device=target.device)
    penalties, labels = (grades[:, None] - grades).square() / 16, F.one_hot(target, 5).float()
    chance = torch.outer(labels.sum(0), probabilities.sum(0)) / len(target)
    return (penalties * (labels.T @ probabilities)).sum() / (penalties * chance).sum() - 1


def cases(quick: bool) -> list[Case]:
    """Return the suite."""
    long = [1000, 3000] if quick else [30_000, 100_000, 300_000, 1_000_000]
    many = [512, 1024] if quick else [4096, 8192, 16384]

    def against(
        name: str, sizes: list[int], inputs: Callable[..., Inputs], formula: Callable[..., Tensor]
    ) -> list[Case]:
        options = {"num_classes": 5} if name == "QuadraticWeightedKappaLoss" else {}
        mine = Contestant("lossframe", partial(ours, name=name, inputs=inputs, **options))
        return at_sizes(name, sizes, mine, Contestant("pairwise", partial(plainly, formula=formula, inputs=inputs)))

    mine = Contestant("lossframe", partial(ours, name="ROCAUCLoss", inputs=scored))
    pairwise = Contestant("pairwise", partial(plainly, formula=pairwise_area, inputs=scored), largest=30_000)
    return [
        *at_sizes("ROCAUCLoss", long, mine, Contestant("torch.sort", sort), pairwise),
        *against("PullAwayLoss", many, tall, pairwise_pull_away),
        *against("DeCovLoss", many, wide, whole_covariance),
        *against("QuadraticWeightedKappaLoss", many, graded, whole_kappa),
    ]
