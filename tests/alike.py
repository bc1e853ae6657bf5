"""Batches whose sizes are all equal: samples, classes, features and positions, where code that guesses goes wrong."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from table import TABLE, Inputs
from torch import Tensor

from lossframe import Loss
from lossframe import losses as catalogue
from lossframe.losses.binary import BinaryClassification
from lossframe.losses.classification import Classification
from lossframe.losses.regression import Regression

SIZES = (2, 3, 4)


class Batch(NamedTuple):
    """Constructor's arguments and inputs of one loss."""

    options: dict[str, Any]
    inputs: Inputs


def normal(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def uniform(g: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=g, dtype=torch.float64)


def indices(g: torch.Generator, n: int, *shape: int) -> Tensor:
    return torch.randint(0, n, shape, generator=g)


def of_classes(loss: type[Loss], n: int, dims: int, g: torch.Generator) -> Iterator[Batch]:
    """Give class indices, some of them ignored where that is possible, and probabilities."""
    shape, places = (n,) * dims, (n,) * (dims - 1)
    name = "logits" if issubclass(loss, Classification) else "probabilities"
    scores = normal(g, *shape) if name == "logits" else normal(g, *shape).softmax(1)
    options: dict[str, Any] = {}
    target = indices(g, n, *places)
    if loss is catalogue.CrossEntropyLoss:
        options = {"class_weight": (0.5 + uniform(g, n)).tolist(), "label_smoothing": 0.1}
        target.view(-1)[-1] = -100
        yield Batch({}, {name: scores, "target": target})
    if loss is catalogue.FocalLoss:
        options = {"alpha": uniform(g, n).tolist()}
    yield Batch(options, {name: scores, "target": target})
    yield Batch(options, {name: scores, "target": normal(g, *shape).softmax(1)})


def batches(loss: type[Loss], n: int, g: torch.Generator) -> Iterator[Batch]:
    """Give batches of one loss in which every size is `n`."""
    row = TABLE[loss]
    kappa = "num_classes" in row.options and "probabilities" in row.inputs(1, g)
    if kappa:
        for batch in of_classes(loss, n, 2, g):
            yield Batch({"num_classes": n}, batch.inputs)
    elif issubclass(loss, Classification) or loss is catalogue.CategoricalCrossEntropyLoss:
        for dims in (2, 3, 4):
            yield from of_classes(loss, n, dims, g)
    elif loss is catalogue.DiscretizedLogisticMixtureLoss:
        image = 2 * uniform(g, n, 3, n, n) - 1
        yield Batch({"num_mixtures": n}, {"parameters": normal(g, n, 10 * n, n, n), "image": image})
        gray = {"parameters": normal(g, n, 3 * n, n, n), "image": image[:, :1]}
        yield Batch({"num_mixtures": n}, gray)
    elif "embeddings" in loss.reads or "features" in loss.reads:
        labelled = {"labels": indices(g, n, n)} if "labels" in loss.reads else {}
        views = {"views": normal(g, n, n)} if "views" in loss.reads else {}
        options = {"num_classes": n, "num_features": n} if loss is catalogue.CenterLoss else {}
        yield Batch(options, {loss.reads[0]: normal(g, n, n), **labelled, **views})
    else:
        yield from of_shapes(loss, n, g)


def of_shapes(loss: type[Loss], n: int, g: torch.Generator) -> Iterator[Batch]:
    """Give the inputs of an elementwise loss, or of one on rows, in every shape that it takes."""
    row = TABLE[loss]
    lowest = 2 if loss in (catalogue.CosineDistanceLoss, catalogue.TripletMarginLoss) else 1
    highest = 2 if loss in (catalogue.TripletMarginLoss, catalogue.ROCAUCLoss) else 4
    for dims in range(lowest, highest + 1):
        shape = (n,) * dims
        inputs = {name: normal(g, *shape) for name in row.inputs(1, g)}
        inputs |= {name: 0.1 + 0.8 * uniform(g, *shape) for name in inputs if name in ("variance", "probabilities")}
        if not issubclass(loss, Regression) and "target" in inputs and loss is not catalogue.GaussianNLLLoss:
            inputs["target"] = (inputs["target"] > 0).double()
        options = dict(row.options)
        if issubclass(loss, BinaryClassification) and dims > 1:
            inputs["target"] = uniform(g, *shape)
            if loss is catalogue.BinaryCrossEntropyLoss:
                options["pos_weight"] = (0.5 + uniform(g, n)).tolist()
        yield Batch(options, inputs)


def weights(loss: type[Loss], values: Tensor, n: int, g: torch.Generator) -> Iterator[Tensor | None]:
    """Give no weight, and weights with zeros: one per sample, and one per value where a loss takes that."""
    yield None
    drawn = uniform(g, n) if TABLE[loss].per_sample else torch.ones(n, dtype=torch.float64)
    drawn[n // 2] = 0
    yield drawn
    if not loss.relational and values.ndim > 1:
        fine = uniform(g, *values.shape) + 0.1
        yield fine * (uniform(g, *values.shape) < 0.6)
        yield (uniform(g, 1, *values.shape[1:]) < 0.6).double()
