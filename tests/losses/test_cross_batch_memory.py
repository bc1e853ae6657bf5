"""`CrossBatchMemory` compares a batch with itself and with a queue of earlier batches."""

import copy
from typing import Any

import pytest
import torch
from test_wrappers import RELATIONAL, D, Inputs, N, inputs
from torch import Tensor

from lossframe import losses
from lossframe.losses import CrossBatchMemory


def with_queue(loss: Any, batch: Inputs, queue: list[Inputs]) -> Tensor:
    """Return the mean penalty of the anchors of a batch, by the formula of all rows of the batch and the queue."""
    rows, labels = (torch.cat([each[k] for each in (batch, *queue)]) for k in ("embeddings", "labels"))
    n, told = len(batch["labels"]), {}
    loss.averaged_over = lambda numbers, present=None: told.update(numbers=numbers.double())
    values, counts = loss.loss(rows, labels), loss.counts(rows, labels)
    if counts is None:
        counts, scale = told["numbers"], told["numbers"].sum() / len(rows)
        return values[:n].sum() * scale / counts[:n].sum()
    return (values * counts)[:n].sum() / counts[:n].sum()


@pytest.mark.parametrize("name", RELATIONAL)
@pytest.mark.parametrize("size", [9, 400])
def test_batch_is_compared_with_itself_and_the_queue(name: str, size: int) -> None:
    criterion = CrossBatchMemory(RELATIONAL[name](), size, D, warmup=1).double()
    everything, queue = inputs(700), list[Inputs]()
    for start, end in ((0, 20), (20, 300), (300, 600), (600, 607)):  # more than one block of pairs
        batch = {k: everything[k][start:end] for k in ("embeddings", "labels")}
        found, wanted = (batch["embeddings"].clone().requires_grad_() for _ in range(2))
        values = (
            criterion(found, batch["labels"]),
            with_queue(RELATIONAL[name](), {**batch, "embeddings": wanted}, queue if start else []),
        )
        torch.testing.assert_close(*values)
        torch.testing.assert_close(
            *(torch.autograd.grad(v, x)[0] for v, x in zip(values, (found, wanted), strict=True))
        )
        rows = {k: torch.cat([batch[k], *(each[k] for each in queue)])[:size] for k in batch}
        queue = [rows]
    torch.testing.assert_close(criterion.embeddings[: criterion.held], queue[0]["embeddings"])


def test_queue_is_saved_and_is_neither_read_nor_changed_in_evaluation() -> None:
    given = inputs()
    criterion = CrossBatchMemory(losses.SupConLoss(), 8, D).double()
    criterion(given["embeddings"], given["labels"])
    other = CrossBatchMemory(losses.SupConLoss(), 8, D).double()
    other.load_state_dict(copy.deepcopy(criterion.state_dict()))
    assert other(given["embeddings"], given["labels"]) == criterion(given["embeddings"], given["labels"])
    assert (other.held, other.calls) == (8, 2)
    before = criterion.eval().embeddings.clone()
    assert criterion(given["embeddings"], given["labels"]) == losses.SupConLoss()(given["embeddings"], given["labels"])
    assert torch.equal(before, criterion.embeddings)
    criterion.train()(torch.full((2, D), torch.nan).double(), given["labels"][:2])
    assert torch.equal(before, criterion.embeddings)


def test_keys_take_the_place_of_embeddings_in_the_queue() -> None:
    given, keys = inputs(), torch.randn(N, D).double()
    criterion = CrossBatchMemory(losses.SupConLoss(), 20, D).double()
    found = criterion(given["embeddings"], torch.arange(N), keys)
    both = torch.cat([given["embeddings"], keys])
    wanted = losses.SupConLoss(reduction="none")(both, torch.arange(N).repeat(2))[:N].mean()
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(criterion.embeddings[:N], keys)
