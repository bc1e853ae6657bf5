"""Batched gradients, `torch.func` and double backward agree with plain backward, for small and large batches alike."""

from typing import Any

import plain
import pytest
import torch
from batches import batch
from table import TABLE, Inputs, differentiable, large, options
from torch import Tensor

from lossframe import Loss

SMALL = 9
WITH_GRADIENT = [loss for loss, row in TABLE.items() if loss.reads and row.gradient]
DENSE_AND_SMOOTH = [loss for loss in WITH_GRADIENT if TABLE[loss].smooth and not loss.relational]
RELATIONAL_AND_SMOOTH = [loss for loss in WITH_GRADIENT if TABLE[loss].smooth and loss.relational]
every_loss = pytest.mark.parametrize("loss_class", WITH_GRADIENT, ids=lambda loss: loss.__name__)
sizes = pytest.mark.parametrize("many", [False, True], ids=["small", "large"])


@pytest.fixture(autouse=True)
def _one_thread(threads: None) -> None:
    torch.set_num_threads(1)  # more of them take more rows at a time


def drawn(loss_class: type[Loss], many: bool, dtype: torch.dtype) -> Inputs:
    inputs = batch(loss_class, large(loss_class) if many else SMALL)
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in inputs.items()}


def made(loss_class: type[Loss], dtype: torch.dtype = torch.float64, **reduction: Any) -> Loss:
    """Build a loss, with the last of the options that it takes."""
    return loss_class(**options(loss_class)[-1], **reduction).to(dtype).eval()


def leaves(inputs: Inputs) -> tuple[Inputs, list[Tensor]]:
    inputs = {name: t.detach().clone() for name, t in inputs.items()}
    return inputs, [inputs[name].requires_grad_() for name in differentiable(inputs)]


@every_loss
@sizes
@pytest.mark.parametrize(("dtype", "reduction"), [(torch.float32, "none"), (torch.float64, "mean")], ids=str)
def test_batched_gradients_equal_those_of_a_loop(
    loss_class: type[Loss], many: bool, dtype: torch.dtype, reduction: str
) -> None:
    criterion = made(loss_class, dtype, reduction=reduction)
    inputs, points = leaves(drawn(loss_class, many, dtype))
    value = criterion(**inputs)
    upstream = torch.randn(2, *value.shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    found = torch.autograd.grad(value, points, upstream, is_grads_batched=True, retain_graph=True)
    wanted = [torch.autograd.grad(value, points, row, retain_graph=True) for row in upstream]
    rtol = 1e-4 if dtype == torch.float32 else 1e-9
    for batched, rows in zip(found, zip(*wanted, strict=True), strict=True):
        largest = max(row.abs().amax().item() for row in rows)
        torch.testing.assert_close(batched, torch.stack(rows), rtol=rtol, atol=1e-2 * rtol * largest)


@every_loss
@sizes
def test_functional_gradient_equals_that_of_backward(loss_class: type[Loss], many: bool) -> None:
    criterion = made(loss_class)
    inputs, points = leaves(drawn(loss_class, many, torch.float64))
    wanted = torch.autograd.grad(criterion.loss(**inputs).sum(), points)
    names = differentiable(inputs)

    def total(*tensors: Tensor) -> Tensor:
        return criterion.loss(**{**inputs, **dict(zip(names, tensors, strict=True))}).sum()

    found = torch.func.grad(total, tuple(range(len(points))))(*(point.detach() for point in points))
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss_class", DENSE_AND_SMOOTH, ids=lambda loss: loss.__name__)
def test_double_backward_of_a_large_batch_equals_that_of_a_small_one(loss_class: type[Loss]) -> None:
    def second(inputs: Inputs) -> list[Tensor]:
        inputs, points = leaves(inputs)
        value = made(loss_class, reduction="sum")(**inputs)
        first = torch.autograd.grad(value, points, create_graph=True)
        total = torch.stack([gradient.square().sum() for gradient in first]).sum()
        if not total.requires_grad:
            return [torch.zeros_like(point) for point in points]
        return list(torch.autograd.grad(total, points, materialize_grads=True))

    inputs = drawn(loss_class, True, torch.float64)
    found, wanted = second(inputs), second({name: t[:SMALL] for name, t in inputs.items()})
    torch.testing.assert_close([gradient[:SMALL] for gradient in found], wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss_class", RELATIONAL_AND_SMOOTH, ids=lambda loss: loss.__name__)
def test_double_backward_over_many_anchors_equals_that_of_the_plain_formula(loss_class: type[Loss]) -> None:
    criterion = made(loss_class)
    inputs, points = leaves(drawn(loss_class, True, torch.float64))

    def second(value: Tensor) -> Tensor:
        (first,) = torch.autograd.grad(value, points[:1], create_graph=True)
        return torch.autograd.grad(first.square().sum(), points[:1], materialize_grads=True)[0]

    wanted = second(plain.reduced(criterion, inputs))
    found = second(criterion(**inputs))
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-9 * wanted.abs().amax().item())
