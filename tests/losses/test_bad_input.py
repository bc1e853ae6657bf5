"""Every loss refuses inputs that do not fit, in an error that names the class, the entry and the finding."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from table import TABLE, Inputs, differentiable
from torch import Tensor

from lossframe import InputError, Loss
from lossframe import losses as catalogue

LOSSES = [loss for loss in TABLE if loss.reads]
N = 9


def written(tensor: Tensor) -> str:
    return str(list(tensor.shape))


def with_last(value: float) -> Callable[[Tensor], Tensor]:
    def change(tensor: Tensor) -> Tensor:
        changed = tensor.clone()
        changed.view(-1)[-1] = value
        return changed

    return change


# what is wrong -> how to make it so, and what the message shows of it
PROBLEMS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], str]]] = {
    "one dimension more": (lambda t: t[None], written),
    "one dimension less": (lambda t: t[:, 0], written),
    "a column": (lambda t: t[:, None], written),
    "a row short": (lambda t: t[:-1], written),
    "integers": (lambda t: t.long(), lambda t: "torch.int64"),
    "floats": (lambda t: t.double(), lambda t: "torch.float64"),
    "a negative label": (with_last(-1), lambda t: "-1"),
    "a label too high": (with_last(4), lambda t: "4"),
    "above 1": (with_last(1.5), lambda t: "1.5"),
    "below 0": (with_last(-0.5), lambda t: "-0.5"),
    "NaN": (with_last(float("nan")), lambda t: "nan"),
}
SHAPES = ["one dimension more", "a row short"]
LABELS = [*SHAPES, "floats"]
INDICES = [*LABELS, "a negative label", "a label too high"]
SHARES = ["above 1", "below 0", "NaN"]
ANY_LABEL = ("BatchAllTriplet", "BatchHardTriplet", "BatchSemiHardTriplet", "Contrastive", "SupCon")
OF_SHARES = ("BinaryCrossEntropy", "BinaryFocal", "Log", "Hinge", "PairContrastive")


def problems(loss: type[Loss], name: str, tensor: Tensor) -> list[str]:
    """List what can be wrong with one entry of a loss."""
    kind = loss.__name__.removesuffix("Loss")
    if loss is catalogue.AuxiliaryLoss:
        return ["integers"]
    if loss is catalogue.DeCovLoss:
        return ["one dimension less", "integers"]
    if loss is catalogue.PullAwayLoss:
        return ["one dimension less", "one dimension more", "integers"]
    if not tensor.is_floating_point():
        return LABELS if kind in ANY_LABEL else INDICES
    shapes = [*SHAPES, *(["a column"] if tensor.ndim == 1 else [])]
    if name == "target":
        return [*shapes, *(SHARES if kind in OF_SHARES else ["NaN"])]
    shapes = [*shapes, "integers"]
    return [*shapes, *({"probabilities": ["below 0", "NaN"], "variance": ["below 0", "NaN"]}.get(name, []))]


def inputs_of(loss: type[Loss]) -> Inputs:
    return TABLE[loss].inputs(N, torch.Generator().manual_seed(0))


CASES = [
    pytest.param(loss, name, problem, id=f"{loss.__name__}-{name}-{problem}")
    for loss in LOSSES
    for name, tensor in inputs_of(loss).items()
    for problem in problems(loss, name, tensor)
]


@pytest.mark.parametrize(("loss", "name", "problem"), CASES)
def test_input_that_does_not_fit_is_named_with_class_entry_and_finding(
    loss: type[Loss], name: str, problem: str
) -> None:
    inputs, (change, shown) = inputs_of(loss), PROBLEMS[problem]
    inputs[name] = change(inputs[name])
    criterion = TABLE[loss].make(loss)
    with pytest.raises(InputError) as caught:
        criterion(**inputs)
    message = str(caught.value)
    assert message.startswith(f"{loss.__name__}: ")
    assert name in message
    assert shown(inputs[name]).lower() in message.lower()
    assert "wanted" in message or "want" in message
    assert criterion.avg == {}, "nothing is remembered of what was refused"


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize("weight", [torch.ones(N + 1), torch.ones(N, 7), torch.ones(1, N)])
def test_weight_of_another_shape_is_an_input_error(loss: type[Loss], weight: Tensor) -> None:
    with pytest.raises(InputError, match=rf"^{loss.__name__}: .*weight"):
        TABLE[loss].make(loss)(**inputs_of(loss), weight=weight)


def test_nan_in_padding_changes_no_value() -> None:
    target, weight = torch.tensor([1.0, 2.0, torch.nan]), torch.tensor([1.0, 1.0, 0.0])
    for criterion in (catalogue.MSELoss(), catalogue.HuberLoss(), catalogue.QuantileLoss(0.5)):
        assert criterion(torch.tensor([1.0, 2.0, 3.0]), target, weight=weight) == 0
        assert criterion.avg == {"loss": 0.0}


_LABELS, _WEIGHT = torch.tensor([[0, 1, 1], [1, 2, 0]]), torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])


@pytest.mark.parametrize(
    ("make", "target", "weight"),
    [
        (catalogue.CrossEntropyLoss, torch.where(_WEIGHT == 0, -100, _LABELS), None),
        (catalogue.CrossEntropyLoss, _LABELS, _WEIGHT),
        (catalogue.CrossEntropyLoss, torch.eye(4)[_LABELS].mT, _WEIGHT),
        (catalogue.FocalLoss, _LABELS, _WEIGHT),
    ],
    ids=["ignored", "indices", "probabilities", "focal"],
)
@pytest.mark.parametrize("score", [torch.inf, torch.nan])
def test_nonfinite_scores_of_padding_change_no_gradient(
    make: type[Loss], target: Tensor, weight: Tensor | None, score: float
) -> None:
    padding = (_WEIGHT == 0)[:, None]
    clean = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    spoilt = clean.detach().masked_fill(padding, score).requires_grad_()
    values = [make()(logits, target, weight=weight) for logits in (clean, spoilt)]
    (wanted,), (found,) = (torch.autograd.grad(v, x) for v, x in zip(values, (clean, spoilt), strict=True))
    torch.testing.assert_close(values[1], values[0])
    torch.testing.assert_close(found, wanted)
    assert (found.masked_select(padding) == 0).all()


# a NaN among probabilities is refused at once, and accuracy compares it: it is wrong
NAN_IN_STATISTICS = [
    loss for loss in LOSSES if TABLE[loss].gradient and differentiable(inputs_of(loss))[0] != "probabilities"
]


@pytest.mark.parametrize("loss", NAN_IN_STATISTICS, ids=lambda loss: loss.__name__)
def test_nan_in_the_prediction_raises_an_error_when_statistics_are_read(loss: type[Loss]) -> None:
    inputs: dict[str, Any] = inputs_of(loss)
    name = differentiable(inputs)[0]
    inputs[name] = with_last(float("nan"))(inputs[name])
    criterion = TABLE[loss].make(loss)
    criterion(**inputs)
    with pytest.raises(InputError, match=rf"^{loss.__name__}.* not finite"):
        criterion.avg  # noqa: B018
