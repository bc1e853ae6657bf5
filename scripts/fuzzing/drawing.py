"""What a loss of the catalogue is given: shapes, dtypes and values drawn from what its contract allows, and beyond."""

from dataclasses import dataclass, field
from typing import Any

import torch
from table import options
from torch import Tensor

from fuzzing.chance import INTEGERS, KINDS, Chance
from lossframe import Loss
from lossframe import losses as catalogue
from lossframe.losses.binary import BinaryClassification
from lossframe.losses.classification import Classification
from lossframe.losses.regression import Regression

OF_ROWS = ("embeddings", "features", "anchor")
SIZES = (0, 1, 2, 2, 3, 3, 4, 9)


@dataclass
class Given:
    """Constructor's arguments and inputs of one loss; `refusable` says why an `InputError` may answer them."""

    loss: type[Loss]
    options: dict[str, Any]
    inputs: dict[str, Tensor]
    refusable: set[str] = field(default_factory=set)


def given(loss: type[Loss], chance: Chance, dtype: torch.dtype) -> Given:
    """Draw options and inputs of a loss."""
    chosen = dict(chance.choose(*options(loss)))
    n, kind = chance.choose(*SIZES), chance.choose(*KINDS)
    drawn = Given(loss, chosen, {})
    if kind == "special":
        drawn.refusable.add("NaN or infinity")
    scores = loss.reads[0]
    if issubclass(loss, Classification) or (scores == "probabilities" and loss is not catalogue.LogLoss):
        _classes(drawn, chance, n, dtype, kind)
    elif loss is catalogue.DiscretizedLogisticMixtureLoss:
        _image(drawn, chance, n, dtype, kind)
    elif scores in OF_ROWS:
        _rows(drawn, chance, n, dtype, kind)
    else:
        _elements(drawn, chance, n, dtype, kind)
    return drawn


IGNORING = (
    catalogue.CrossEntropyLoss, catalogue.FocalLoss, catalogue.CategoricalCrossEntropyLoss,
    catalogue.CategoricalAccuracy,
)  # fmt: skip


def _classes(drawn: Given, chance: Chance, n: int, dtype: torch.dtype, kind: str) -> None:
    grades = "num_classes" in drawn.options
    classes = drawn.options.get("num_classes", chance.choose(2, 3, 4))
    if drawn.options.get("class_weight"):
        classes = len(drawn.options["class_weight"])
    places = [] if grades else chance.choose([], [], [classes], [3], [2, classes])
    scores = chance.numbers([n, classes, *places], dtype, kind)
    name = drawn.loss.reads[0]
    if name == "probabilities":
        scores = _probabilities(chance, scores, kind)
        drawn.refusable |= {"rounded probabilities"} if dtype in (torch.float16, torch.bfloat16) else set()
    target = chance.integers(0, classes, [n, *places])
    if chance.often(0.25):
        target = _probabilities(chance, chance.numbers([n, classes, *places], dtype, "normal"), "normal")
        drawn.refusable.add("rounded probabilities")
    elif drawn.loss in IGNORING and chance.often(0.5):
        ignored = chance.choose(-100, 1, 255)
        drawn.options["ignore_index"] = ignored
        target = torch.where(chance.uniform(target.shape) < 0.3, ignored, target)
    elif not places and chance.often(0.2):
        target = target[:, None]
    drawn.inputs = {name: scores, "target": _retyped(chance, target, drawn)}


def _probabilities(chance: Chance, x: Tensor, kind: str) -> Tensor:
    dtype = x.dtype
    p = torch.nan_to_num(x.double(), 0, 0, 0).clamp(-700, 700).softmax(1)
    p = p / p.sum(1, keepdim=True)
    if kind == "ties":
        p = torch.nn.functional.one_hot(p.argmax(1), p.shape[1]).movedim(-1, 1).double()
    return (chance.with_special(p) if kind == "special" else p).to(dtype)


def _retyped(chance: Chance, target: Tensor, drawn: Given) -> Tensor:
    """Return integer labels in some integer dtype that holds them."""
    if target.is_floating_point():
        return target
    low, high = (int(target.min()), int(target.max())) if target.numel() else (0, 0)
    fitting = [dtype for dtype in INTEGERS if torch.iinfo(dtype).min <= low and high <= torch.iinfo(dtype).max]
    if low >= 0 and high <= 1 and chance.often(0.1):
        drawn.refusable.add("bool labels")
        return target.bool()
    return target.to(chance.choose(*fitting, torch.int64))


def _image(drawn: Given, chance: Chance, n: int, dtype: torch.dtype, kind: str) -> None:
    k, colours, size = drawn.options["num_mixtures"], chance.choose(1, 3), chance.choose(1, 2, 3)
    parameters = chance.numbers([n, (10 if colours == 3 else 3) * k, size, size], dtype, kind)
    image = (chance.integers(0, 256, [n, colours, size, size]) / 127.5 - 1).clamp(-1, 1).to(dtype)
    drawn.inputs = {"parameters": parameters, "image": image}


def _rows(drawn: Given, chance: Chance, n: int, dtype: torch.dtype, kind: str) -> None:
    width = drawn.options.get("num_features", chance.choose(1, 2, 3, 5))
    for name in drawn.loss.reads:
        if name != "labels":
            drawn.inputs[name] = chance.numbers([n, width], dtype, kind)
    if "views" in drawn.inputs and ("labels" not in drawn.loss.reads or chance.often(0.5)):
        drawn.inputs.pop("views")
    if "labels" in drawn.loss.reads:
        labels = chance.integers(0, drawn.options.get("num_classes", 3), [n, 1] if chance.often(0.2) else [n])
        drawn.inputs["labels"] = _retyped(chance, labels, drawn)


def _elements(drawn: Given, chance: Chance, n: int, dtype: torch.dtype, kind: str) -> None:
    """Draw scores and a target of one shape."""
    loss = drawn.loss
    shape = [n, *chance.choose([], [], [n], [3], [2, 3], [n, n], [2, 1, 2])]
    if loss is catalogue.ROCAUCLoss:
        shape = shape[:2]
    if loss is catalogue.CosineDistanceLoss and len(shape) == 1:
        shape = [n, 3]
    if drawn.options.get("pos_weight") is None and chance.often(0.05):
        shape, drawn.refusable = [], {*drawn.refusable, "no batch dimension"}
    for name in loss.reads:
        drawn.inputs[name] = chance.numbers(shape, dtype, kind)
    for name in ("variance", "distance"):
        if name in drawn.inputs:
            drawn.inputs[name] = drawn.inputs[name].abs()
    if "probabilities" in drawn.inputs:
        p = chance.uniform(shape) if chance.often(0.7) else chance.integers(0, 2, shape).double()
        drawn.inputs["probabilities"] = (chance.with_special(p) if kind == "special" else p).to(dtype)
    if "target" in drawn.inputs and not issubclass(loss, Regression | catalogue.GaussianNLLLoss):
        _yes_or_no(drawn, chance, shape, dtype)
    elif "target" in drawn.inputs and chance.often(0.2):
        whole = chance.integers(0, 2, shape)
        drawn.inputs["target"] = _retyped(chance, whole, drawn)


def _yes_or_no(drawn: Given, chance: Chance, shape: list[int], dtype: torch.dtype) -> None:
    low = -1 if drawn.options.get("labels") == "signed" else 0
    target = chance.integers(low, 2, shape)
    if chance.often(0.5):
        soft = chance.uniform(shape)
        drawn.inputs["target"] = (
            soft if chance.often(0.3) and issubclass(drawn.loss, BinaryClassification) else target
        ).to(dtype)
    else:
        drawn.inputs["target"] = _retyped(chance, target, drawn)


def weight(chance: Chance, shape: list[int], relational: bool, only_in_or_out: bool) -> Any:
    """Draw a weight in any form, with zeros; `shape` is that of the values, whose rows are samples."""
    if chance.often(0.35) or not shape:
        return None
    if chance.often(0.15):
        return chance.choose(0, 1, 0.5, 2.0, 1e-3, torch.tensor(2.0))
    fine = not relational and len(shape) > 1 and chance.often(0.5)
    of_values = shape if fine else shape[:1]
    w = torch.ones(of_values) if only_in_or_out else chance.uniform(of_values) + 0.1
    w = torch.where(chance.uniform(of_values) < chance.choose(0.0, 0.3, 0.3, 1.0), 0, w)
    w = w.to(chance.choose(torch.float32, torch.float64, torch.float16)) if chance.often(0.8) else w > 0
    return {"tensor": w, "list": w.tolist(), "numpy": w.numpy()}[chance.choose("tensor", "tensor", "list", "numpy")]
