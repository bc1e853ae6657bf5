"""Inputs of losses that gather, on real ranks: strided, expanded, transposed, empty, and of any integer dtype."""

from typing import Any

import pytest
import torch
from pool import Pool
from table import TABLE, differentiable
from torch import Tensor

from lossframe import Loss, drain
from lossframe.losses import MSELoss, PullAwayLoss

GATHERING = [loss for loss in TABLE if loss.reads and loss.relational]
SPLIT = [1, 8, 0]
every_gathering_loss = pytest.mark.parametrize("loss_class", GATHERING, ids=lambda loss_class: loss_class.__name__)


def strided(tensor: Tensor) -> Tensor:
    """Return the same numbers as every other column of a wider tensor."""
    return torch.stack([tensor, tensor], -1)[..., 1]


def transposed(tensor: Tensor) -> Tensor:
    return tensor.t().contiguous().t() if tensor.ndim == 2 else strided(tensor)


def expanded(tensor: Tensor) -> Tensor:
    """Return the first row or number as often as there are rows, without copies."""
    return tensor[:1].expand(tensor.shape)


LAYOUTS = {f.__name__: f for f in (strided, transposed, expanded)}


def batch(loss_class: type[Loss], layout: str) -> dict[str, Tensor]:
    inputs = TABLE[loss_class].inputs(9, torch.Generator().manual_seed(0))
    return {name: LAYOUTS[layout](tensor) for name, tensor in inputs.items()}


def on_rank(rank: int, world: int, loss_class: type[Loss], layout: str) -> tuple[Tensor, list[Tensor]]:
    start = sum(SPLIT[:rank])
    inputs = batch(loss_class, layout)
    mine = {name: tensor[start : start + SPLIT[rank]] for name, tensor in inputs.items()}
    leaves = [mine[name].requires_grad_() for name in differentiable(mine)]
    weight = strided(torch.ones(9))[start : start + SPLIT[rank]]
    value = TABLE[loss_class].make(loss_class)(**mine, weight=weight)
    return value.detach(), [gradient / world for gradient in torch.autograd.grad(value, leaves)]


@every_gathering_loss
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gathering_loss_takes_inputs_of_any_layout(pool: Pool, loss_class: type[Loss], layout: str) -> None:
    inputs = batch(loss_class, layout)
    leaves = [inputs[name].requires_grad_() for name in differentiable(inputs)]
    value = TABLE[loss_class].make(loss_class)(**inputs)
    wanted = torch.autograd.grad(value, leaves)
    found = pool.run(3, on_rank, 3, loss_class, layout)
    for rank_value, _ in found:
        assert torch.allclose(rank_value, value, rtol=1e-10)
    for gradients in zip(wanted, *(of_rank for _, of_rank in found), strict=True):
        torch.testing.assert_close(torch.cat(gradients[1:]), gradients[0], rtol=1e-9, atol=1e-12)


def nothing(rank: int, loss_class: type[Loss]) -> tuple[Tensor, list[Tensor]]:
    inputs = TABLE[loss_class].inputs(0, torch.Generator().manual_seed(0))
    leaves = [inputs[name].requires_grad_() for name in differentiable(inputs)]
    value = TABLE[loss_class].make(loss_class)(**inputs)
    return value.detach(), list(torch.autograd.grad(value, leaves))


@every_gathering_loss
def test_batch_that_is_empty_on_all_ranks_is_a_zero_with_gradient(pool: Pool, loss_class: type[Loss]) -> None:
    for value, gradients in pool.run(2, nothing, loss_class):
        assert value == 0
        assert all(gradient.shape[0] == 0 for gradient in gradients)


def labelled(rank: int, dtype: torch.dtype) -> Tensor:
    loss_class = next(loss for loss in GATHERING if loss.__name__ == "BatchAllTripletLoss")
    inputs = TABLE[loss_class].inputs(9, torch.Generator().manual_seed(0))
    mine = {name: tensor[rank::2] for name, tensor in inputs.items()}
    return TABLE[loss_class].make(loss_class)(mine["embeddings"], mine["labels"].to(dtype))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint32])
def test_labels_of_any_integer_dtype_are_gathered(pool: Pool, dtype: torch.dtype) -> None:
    wanted = pool.run(2, labelled, torch.int64)
    assert torch.equal(torch.stack(pool.run(2, labelled, dtype)), torch.stack(wanted))


def logging_outside(rank: int) -> Any:
    criterion = PullAwayLoss()
    criterion.log("norm", torch.full((2,), 1.0 + 4 * rank))
    criterion(torch.eye(3)[rank : rank + 1])
    return {name: (moments.count, moments.mean) for name, moments in drain({"term": criterion})["term"].items()}


def test_value_logged_outside_of_a_relational_formula_counts_on_every_rank(pool: Pool) -> None:
    for found in pool.run(2, logging_outside):
        assert found["norm"] == (4, 3)
        assert found["loss"] == (2, 0)


def overflowing(rank: int) -> float:
    return MSELoss()(torch.full((2,), 1.5e19), torch.zeros(2)).item()


def test_mean_over_ranks_is_finite_where_only_the_sum_overflows(pool: Pool) -> None:
    for value in pool.run(3, overflowing):
        assert value == pytest.approx(2.25e38)
