"""Every loss is finite for no sample, one sample, one class, equal samples and huge numbers."""

import pytest
import torch
from batches import LOSSES, batch, change, every_loss, gradients
from table import TABLE, Inputs, differentiable
from torch import Tensor

from lossframe import Loss
from lossframe.losses.base.per_sample import PerSample
from lossframe.losses.base.reduction import REDUCTIONS


def assert_zero(value: Tensor, of_inputs: dict[str, Tensor]) -> None:
    assert value == 0
    assert all((gradient == 0).all() for gradient in of_inputs.values())


def assert_finite(value: Tensor, of_inputs: dict[str, Tensor]) -> None:
    assert value.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in of_inputs.values())


@every_loss
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_empty_batch_has_value_and_gradient_0(loss_class: type[Loss], reduction: str) -> None:
    criterion = TABLE[loss_class].make(loss_class, reduction=reduction)
    criterion.samples = PerSample()
    value, of_inputs = gradients(criterion, batch(loss_class, 0))
    assert value.requires_grad == TABLE[loss_class].gradient
    assert_zero(value.sum(), of_inputs)
    assert criterion.avg.get("loss", 0) == 0
    value, of_inputs = gradients(criterion, batch(loss_class), weight=torch.zeros(9))
    assert_zero(value.sum(), of_inputs)


@every_loss
def test_one_sample_has_a_finite_value_and_gradient(loss_class: type[Loss]) -> None:
    value, of_inputs = gradients(TABLE[loss_class].make(loss_class), batch(loss_class, 1))
    (assert_zero if TABLE[loss_class].alone else assert_finite)(value, of_inputs)


@every_loss
@pytest.mark.parametrize("n", [1, 9])
def test_one_class_has_a_finite_value_and_gradient(loss_class: type[Loss], n: int) -> None:
    inputs = batch(loss_class, n)
    inputs |= {name: torch.zeros_like(inputs[name]) for name in ("labels", "target") if name in inputs}
    value, of_inputs = gradients(TABLE[loss_class].make(loss_class), inputs)
    (assert_zero if TABLE[loss_class].one_class else assert_finite)(value, of_inputs)


LABELLED = [loss for loss in LOSSES if {"embeddings", "labels"} <= set(loss.reads)]


@pytest.mark.parametrize("loss_class", LABELLED, ids=lambda loss_class: loss_class.__name__)
def test_batch_of_as_many_classes_as_samples_is_finite(loss_class: type[Loss]) -> None:
    inputs = {"embeddings": batch(loss_class)["embeddings"], "labels": torch.arange(9)}
    assert_finite(*gradients(TABLE[loss_class].make(loss_class), inputs))


def equal(name: str, tensor: Tensor) -> Tensor:
    return tensor[:1].expand_as(tensor).clone()


def zero(name: str, tensor: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(tensor[:2]), tensor[2:]])


def zeros(name: str, tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor)


def huge(name: str, tensor: Tensor) -> Tensor:
    """Turn numbers into +-1e4, and what has a range into its ends."""
    if name == "probabilities":
        return torch.nn.functional.one_hot(tensor.argmax(1), tensor.shape[1]).to(tensor.dtype)
    return (1e4 * tensor.sign()).abs() if name in ("variance", "distance") else 1e4 * tensor.sign()


def offset(name: str, tensor: Tensor) -> Tensor:
    return tensor if name in ("probabilities", "variance") else 1e4 + tensor


CASES = {f.__name__: f for f in (equal, zero, zeros, huge, offset)}


def extreme(loss_class: type[Loss], case: str, dtype: torch.dtype) -> Inputs:
    inputs = batch(loss_class)
    inputs |= {name: CASES[case](name, inputs[name]) for name in differentiable(inputs)}
    return change(inputs, lambda t: t.to(dtype) if t.is_floating_point() else t)


@every_loss
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_extreme_inputs_have_finite_values_and_gradients(loss_class: type[Loss], case: str, dtype: torch.dtype) -> None:
    inputs = extreme(loss_class, case, dtype)
    value, of_inputs = gradients(TABLE[loss_class].make(loss_class).float(), inputs)
    _, wide = gradients(
        TABLE[loss_class].make(loss_class), change(inputs, lambda t: t.double() if t.is_floating_point() else t)
    )
    assert value.isfinite()
    for name, gradient in of_inputs.items():
        assert gradient.dtype == dtype
        representable = wide[name].to(dtype).isfinite()  # a gradient may be too large for half precision
        assert wide[name].isfinite().all()
        assert gradient[representable].isfinite().all()


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_inputs_are_evaluated_in_float32(loss_class: type[Loss], dtype: torch.dtype) -> None:
    criterion = TABLE[loss_class].make(loss_class).float().eval()
    inputs = change(batch(loss_class), lambda t: t.to(dtype) if t.is_floating_point() else t)
    wanted = criterion(**change(inputs, lambda t: t.float() if t.is_floating_point() else t))
    assert torch.equal(criterion(**inputs), wanted)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(criterion(**inputs), wanted)
