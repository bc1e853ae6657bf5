"""A batch that is empty on every rank has value 0 and an empty gradient."""

import pytest
import torch
from pool import Pool
from torch import Tensor

from lossframe import Loss, losses

RELATIONAL = [
    losses.BatchAllTripletLoss, losses.BatchHardTripletLoss, losses.BatchSemiHardTripletLoss, losses.ContrastiveLoss,
    losses.NTXentLoss, losses.SupConLoss,
]  # fmt: skip


def evaluate(rank: int, loss_class: type[Loss], reduction: str) -> tuple[Tensor, Tensor]:
    """Return the value of no embeddings, and its gradient."""
    embeddings = torch.zeros(0, 5, requires_grad=True)
    value = loss_class(reduction=reduction)(embeddings, labels=torch.zeros(0, dtype=torch.int64))
    value.sum().backward()
    assert embeddings.grad is not None
    return value.detach(), embeddings.grad


@pytest.mark.parametrize("loss_class", RELATIONAL, ids=lambda loss_class: loss_class.__name__)
def test_batch_empty_on_all_ranks_has_value_0_and_an_empty_gradient(pool: Pool, loss_class: type[Loss]) -> None:
    for ranks in (2, 3):
        for reduction in ("mean", "none"):
            for value, gradient in [
                evaluate(0, loss_class, reduction),
                *pool.run(ranks, evaluate, loss_class, reduction),
            ]:
                assert value.sum() == 0
                assert gradient.shape == (0, 5)
