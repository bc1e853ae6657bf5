"""The gradient of every loss equals autograd's of the plain reduction of its values, with all sizes equal."""

from collections.abc import Callable, Iterator
from typing import Any

import plain
import pytest
import torch
from alike import SIZES, Batch, batches, weights
from table import TABLE, Inputs
from torch import Tensor

from lossframe import Loss
from lossframe.losses.base.reduction import REDUCTIONS

WITH_GRADIENT = [loss for loss, row in TABLE.items() if loss.reads and row.gradient]
every_loss = pytest.mark.parametrize("loss_class", WITH_GRADIENT, ids=lambda loss: loss.__name__)


@pytest.fixture(autouse=True)
def _one_thread(threads: None) -> None:
    torch.set_num_threads(1)  # batches are small


def leaves(inputs: Inputs, names: list[str]) -> Inputs:
    return {name: t.detach().clone().requires_grad_(name in names) for name, t in inputs.items()}


def slopes(function: Callable[[Inputs], Tensor], inputs: Inputs, names: list[str]) -> dict[str, Tensor]:
    """Return a value, and its gradient by every input that is named."""
    inputs = leaves(inputs, names)
    value = function(inputs)
    upstream = 1 + torch.arange(value.numel(), dtype=value.dtype).reshape(value.shape) / 7
    points = [inputs[name] for name in names]
    if not value.requires_grad:
        return {"value": value, **{name: torch.zeros_like(point) for name, point in zip(names, points, strict=True)}}
    found = torch.autograd.grad(value, points, upstream, materialize_grads=True)
    return {"value": value.detach(), **dict(zip(names, found, strict=True))}


def points(inputs: Inputs) -> list[str]:
    """Name the inputs that a gradient may flow to: probabilities as targets too."""
    return [name for name, t in inputs.items() if t.is_floating_point() and name != "image"]


def cases(loss_class: type[Loss], n: int) -> Iterator[tuple[Batch, Tensor | None]]:
    g = torch.Generator().manual_seed(n)
    for batch in batches(loss_class, n, g):
        values = loss_class(**batch.options).double().eval().loss(**batch.inputs)
        for weight in weights(loss_class, values, n, g):
            yield batch, weight


def written(batch: Batch) -> str:
    return f"{batch.options} {[(name, t.dtype, list(t.shape)) for name, t in batch.inputs.items()]}"


@every_loss
@pytest.mark.parametrize("n", SIZES)
def test_gradient_with_all_sizes_equal_is_that_of_autograd(loss_class: type[Loss], n: int) -> None:
    for number, (batch, weight) in enumerate(cases(loss_class, n)):
        reduction: Any = REDUCTIONS[number % len(REDUCTIONS)]
        for chosen in {"mean", reduction}:
            criterion = loss_class(**batch.options, reduction=chosen).double().eval()
            names = points(batch.inputs)
            found = slopes(lambda x, c=criterion, w=weight: c(**x, weight=w), batch.inputs, names)
            for formula in (lambda x, c=criterion: plain.own(c, x), lambda x, c=criterion: plain.values(c, x)):
                wanted = slopes(
                    lambda x, c=criterion, w=weight, f=formula: plain.reduce(c, x, w, f), batch.inputs, names
                )
                torch.testing.assert_close(
                    found, wanted, rtol=1e-7, atol=1e-10,
                    msg=lambda m, c=chosen, b=batch, w=weight: f"{c}, {written(b)}, weight {w}:\n{m}",
                )  # fmt: skip
