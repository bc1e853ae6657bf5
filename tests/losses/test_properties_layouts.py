"""Every loss gives the same results for any memory layout of its inputs: strides, offsets, expanded dims."""

from collections.abc import Callable

import pytest
import torch
from batches import assert_close, batch, change, every_loss, weights
from table import TABLE, Inputs, differentiable
from torch import Tensor

from lossframe import Loss


@pytest.fixture(autouse=True)
def _one_thread(threads: None) -> None:
    torch.set_num_threads(1)  # batches are small


def channels_last(t: Tensor) -> Tensor:
    return t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t


def transposed(t: Tensor) -> Tensor:
    """Store the last dim first; numbers become a column."""
    return t.transpose(0, -1).contiguous().transpose(0, -1) if t.ndim > 1 else column(t)


def column(t: Tensor) -> Tensor:
    return torch.stack([t, t + 1], -1)[..., 0]


def stepped(t: Tensor) -> Tensor:
    """Take every other row of a tensor, and every other number of its rows."""
    t = t.repeat_interleave(2, 0)[::2]
    return t.repeat_interleave(2, -1)[..., ::2] if t.ndim > 1 else t


def moved(t: Tensor) -> Tensor:
    """Begin in the middle of a storage."""
    return torch.cat([t[:1], t, t[:1]])[1:-1]


def expanded(t: Tensor) -> Tensor:
    """Give all samples the first one's memory."""
    return t[:1].expand(t.shape)


LAYOUTS = (channels_last, transposed, column, stepped, moved, expanded)


def gradients(criterion: Loss, inputs: Inputs, weight: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return value and gradients without copying what may have another layout then."""
    names = differentiable(inputs)
    leaves = [inputs[name].requires_grad_() for name in names]
    value = criterion(**inputs, weight=weight)
    found = torch.autograd.grad(value, leaves) if TABLE[type(criterion)].gradient else []
    return value, dict(zip(names, found, strict=False))


@every_loss
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_memory_layout_changes_no_value_or_gradient(loss_class: type[Loss], layout: Callable[[Tensor], Tensor]) -> None:
    inputs, weight = batch(loss_class), weights(loss_class)
    if layout is expanded:
        inputs = change(inputs, expanded)
    wanted = gradients(TABLE[loss_class].make(loss_class), change(inputs, lambda t: t.contiguous().clone()), weight)
    laid_out = change(inputs, layout)
    found = gradients(TABLE[loss_class].make(loss_class), laid_out, column(weight))
    assert_close(found, wanted)
    torch.testing.assert_close(change(laid_out, torch.Tensor.detach), inputs, rtol=0, atol=0)
