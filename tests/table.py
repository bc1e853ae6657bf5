"""One row for every loss of the catalogue: how to make it, and what to give it. Every property test runs over them."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lossframe import Loss
from lossframe import losses as catalogue

Inputs = dict[str, Tensor]
CLASSES, FEATURES = 4, 5


@dataclass(frozen=True)
class Row:
    """`inputs(n, generator)` gives `n` valid samples in float64; `options` are the constructor's arguments."""

    inputs: Callable[[int, torch.Generator], Inputs]
    options: dict[str, Any] = field(default_factory=dict)
    per_sample: bool = True  # a weight other than 0 and 1 for each sample
    smooth: bool = True  # twice differentiable at random inputs
    gradient: bool = True  # differentiable at all
    alone: bool = False  # a sample without others costs nothing
    one_class: bool = False  # a batch of one class costs nothing
    range: tuple[float, float] = (0, math.inf)  # of the values, both ends included
    excused: Mapping[str, str] = field(default_factory=dict)  # a property that does not apply -> why

    def make(self, loss: type[Loss], **options: Any) -> Loss:
        """Build the loss in float64."""
        return loss(**self.options, **options).double()


def normal(n: int, g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(n, *shape, generator=g, dtype=torch.float64)


def uniform(n: int, g: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(n, *shape, generator=g, dtype=torch.float64)


def labels(n: int, g: torch.Generator) -> Tensor:
    return torch.randint(0, CLASSES, (n,), generator=g)


def bits(n: int, g: torch.Generator, *shape: int) -> Tensor:
    return torch.randint(0, 2, (n, *shape), generator=g).double()


def regression(n: int, g: torch.Generator) -> Inputs:
    return {"prediction": normal(n, g, 3), "target": normal(n, g, 3)}


def scored(n: int, g: torch.Generator) -> Inputs:
    return {"logits": normal(n, g, CLASSES), "target": labels(n, g)}


def probable(n: int, g: torch.Generator) -> Inputs:
    return {"probabilities": normal(n, g, CLASSES).softmax(1), "target": labels(n, g)}


def binary(n: int, g: torch.Generator) -> Inputs:
    return {"logits": normal(n, g, 3), "target": bits(n, g, 3)}


def embedded(n: int, g: torch.Generator) -> Inputs:
    return {"embeddings": normal(n, g, FEATURES), "labels": labels(n, g)}


KAPPA = {"num_classes": CLASSES}
SHARES = {"scale": "probabilities lie in [0, 1]"}
ANY = (-math.inf, math.inf)
TABLE: dict[type[Loss], Row] = {
    catalogue.AuxiliaryLoss: Row(lambda n, g: {"value": normal(n, g)}, range=ANY),
    catalogue.BatchAllTripletLoss: Row(embedded, smooth=False, alone=True, one_class=True),
    catalogue.BatchHardTripletLoss: Row(embedded, smooth=False, alone=True, one_class=True),
    catalogue.BatchSemiHardTripletLoss: Row(embedded, smooth=False, alone=True, one_class=True),
    catalogue.BinaryCrossEntropyLoss: Row(binary, {"label_smoothing": 0.1}),
    catalogue.BinaryFocalLoss: Row(binary),
    catalogue.CategoricalAccuracy: Row(scored, smooth=False, gradient=False, range=(0, 1)),
    catalogue.CategoricalCrossEntropyLoss: Row(probable, excused=SHARES),
    catalogue.CenterLoss: Row(
        lambda n, g: {"features": normal(n, g, FEATURES), "labels": labels(n, g)},
        {"num_classes": CLASSES, "num_features": FEATURES},
    ),
    catalogue.ClippedKappaLogLoss: Row(probable, KAPPA, per_sample=False, range=(-1, math.inf), excused=SHARES),
    catalogue.ContrastiveLoss: Row(embedded, smooth=False, alone=True),
    catalogue.CosineDistanceLoss: Row(regression, {"normalize": True}, range=(0, 2)),
    catalogue.CrossEntropyLoss: Row(scored, {"label_smoothing": 0.1, "class_weight": [1.0, 2.0, 0.5, 0.0]}),
    catalogue.DeCovLoss: Row(lambda n, g: {"features": normal(n, g, FEATURES)}, per_sample=False, alone=True),
    catalogue.DiceLoss: Row(
        lambda n, g: {"logits": normal(n, g, CLASSES, 3), "target": torch.randint(0, CLASSES, (n, 3), generator=g)},
        range=(0, 1),
    ),
    catalogue.DiscretizedLogisticMixtureLoss: Row(
        lambda n, g: {"parameters": normal(n, g, 20, 2, 2), "image": 2 * uniform(n, g, 3, 2, 2) - 1},
        {"num_mixtures": 2},
        smooth=False,
        excused={"offset": "shares of components are a softmax of log-likelihoods, as large as the offset"},
    ),
    catalogue.FocalLoss: Row(scored),
    catalogue.GaussianNLLLoss: Row(
        lambda n, g: {**regression(n, g), "variance": 0.1 + uniform(n, g, 3)},
        range=(math.log(1e-6) / 2 - 1e-6, math.inf),
    ),
    catalogue.HingeLoss: Row(binary, smooth=False),
    catalogue.HuberLoss: Row(regression, smooth=False),
    catalogue.KappaLogLoss: Row(probable, KAPPA, per_sample=False, range=(-1.25, math.inf), excused=SHARES),
    catalogue.L1L2Penalty: Row(lambda n, g: {}, {"l1": 0.1, "l2": 0.5}, per_sample=False, smooth=False),
    catalogue.L1Loss: Row(regression, smooth=False),
    catalogue.LogLoss: Row(lambda n, g: {"probabilities": uniform(n, g, 3), "target": bits(n, g, 3)}, excused=SHARES),
    catalogue.MSELoss: Row(regression),
    catalogue.MeanPairwiseSquaredErrorLoss: Row(regression),
    catalogue.NTXentLoss: Row(
        lambda n, g: {"embeddings": normal(n, g, FEATURES), "views": normal(n, g, FEATURES)}, alone=True
    ),
    catalogue.PairContrastiveLoss: Row(
        lambda n, g: {"distance": 2 * uniform(n, g), "target": bits(n, g)}, smooth=False
    ),
    catalogue.PullAwayLoss: Row(lambda n, g: {"embeddings": normal(n, g, FEATURES)}, alone=True),
    catalogue.QuadraticWeightedKappaLoss: Row(probable, KAPPA, per_sample=False, range=(-1, math.inf), excused=SHARES),
    catalogue.QuantileLoss: Row(regression, {"quantile": 0.9}, smooth=False),
    catalogue.ROCAUCLoss: Row(
        lambda n, g: {"scores": normal(n, g), "target": bits(n, g)},
        {"margin": 0.5},
        per_sample=False,
        alone=True,
        one_class=True,
    ),
    catalogue.SupConLoss: Row(embedded, alone=True),
    catalogue.TripletMarginLoss: Row(
        lambda n, g: {name: normal(n, g, FEATURES) for name in ("anchor", "positive", "negative")}, smooth=False
    ),
}


def differentiable(inputs: Inputs) -> list[str]:
    """Name the inputs that a gradient flows to."""
    return [name for name, t in inputs.items() if t.is_floating_point() and name not in ("target", "image")]


def bound(loss: Loss) -> Loss:
    """Give a penalty the parameters of a fixed small model; leave other losses as they are."""
    if isinstance(loss, catalogue.L1L2Penalty):
        loss.bind(nn.Linear(FEATURES, 2).double())
    return loss


DISTANCE_OPTIONS = [{"distance": name} for name in ("squared_euclidean", "euclidean", "cosine")]
VARIANTS: dict[type[Loss], list[dict[str, Any]]] = {
    catalogue.BatchAllTripletLoss: [*DISTANCE_OPTIONS, {"average": "all"}],
    catalogue.BatchHardTripletLoss: [*DISTANCE_OPTIONS, {"soft_margin": True}],
    catalogue.BatchSemiHardTripletLoss: [*DISTANCE_OPTIONS, {"soft_margin": True}],
    catalogue.BinaryCrossEntropyLoss: [{"pos_weight": 3.0}, {}],
    catalogue.BinaryFocalLoss: [{"gamma": gamma, "alpha": None} for gamma in (0.0, 0.5, 1.0, 5.0)],
    catalogue.CategoricalCrossEntropyLoss: [{"normalize": True}],
    catalogue.CrossEntropyLoss: [{}],
    catalogue.DiceLoss: [{"batch": True}, {"smooth": 1e-3}, {"activation": "sigmoid"}],
    catalogue.FocalLoss: [{"gamma": gamma} for gamma in (0.0, 0.5, 1.0, 5.0)] + [{"alpha": 0.25}],
    catalogue.HingeLoss: [{"labels": "signed"}],
    catalogue.HuberLoss: [{"delta": 1e-3}, {"delta": 1e3}],
    catalogue.PullAwayLoss: [{"squared": False}],
    catalogue.QuantileLoss: [{"quantile": 0.0}, {"quantile": 0.5}],
    catalogue.ROCAUCLoss: [{"margin": 0.2, "power": power} for power in (1, 2, 3)],
    catalogue.SupConLoss: [{"temperature": 1.0}],
    catalogue.TripletMarginLoss: DISTANCE_OPTIONS,
}
"""Other options that a loss takes: a property of numbers holds for all of them."""


def options(loss: type[Loss]) -> list[dict[str, Any]]:
    """Return every set of constructor's arguments to try, those of the row first."""
    return [TABLE[loss].options, *({**_required(loss), **variant} for variant in VARIANTS.get(loss, []))]


def large(loss: type[Loss]) -> int:
    """Return how many samples are computed in more than one block, or by more than one thread."""
    if loss.relational:
        return 300
    of_softmax = {catalogue.CrossEntropyLoss: 140_000, catalogue.FocalLoss: 140_000}
    return {**of_softmax, catalogue.DiscretizedLogisticMixtureLoss: 2_000}.get(loss, 24_000)


def _required(loss: type[Loss]) -> dict[str, Any]:
    return {name: value for name, value in TABLE[loss].options.items() if name in ("num_classes", "quantile")}
