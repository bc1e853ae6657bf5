"""Batches of every loss of the catalogue, and the values and gradients of losses on them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from table import TABLE, Inputs, differentiable
from torch import Tensor

from lossframe import Loss

LOSSES = [loss for loss in TABLE if loss.reads]  # penalties read a model instead
N = 9
every_loss = pytest.mark.parametrize("loss_class", LOSSES, ids=lambda loss_class: loss_class.__name__)


def batch(loss_class: type[Loss], n: int = N, seed: int = 0) -> Inputs:
    return TABLE[loss_class].inputs(n, torch.Generator().manual_seed(seed))


def change(inputs: Inputs, function: Callable[[Tensor], Tensor]) -> Inputs:
    return {name: function(tensor) for name, tensor in inputs.items()}


def weights(loss_class: type[Loss], n: int = N) -> Tensor:
    """Give weights, some of them 0, of the kind that the loss takes."""
    weight = torch.tensor([1.0, 0.0, 2.0, 0.5, 1.0, 0.0, 1.0, 3.0, 1.0], dtype=torch.float64)[:n]
    return weight if TABLE[loss_class].per_sample else (weight != 0).double()


def gradients(criterion: Loss, inputs: Inputs, **options: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the value, and its gradient by every input that has one."""
    names = differentiable(inputs)
    inputs = {name: t.detach().clone().requires_grad_(name in names) for name, t in inputs.items()}
    value = criterion(**inputs, **options)
    if not TABLE[type(criterion)].gradient:
        return value, {}
    return value, dict(zip(names, torch.autograd.grad(value.sum(), [inputs[n] for n in names]), strict=True))


def assert_close(found: tuple[Tensor, dict[str, Tensor]], wanted: tuple[Tensor, dict[str, Tensor]]) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)
