"""Samples and values of weight 0 change nothing in any loss, whatever they hold: NaN and infinity too."""

from typing import Any

import pytest
import torch
from alike import SIZES, batches
from batches import assert_close, batch, change, every_loss, gradients, weights
from table import TABLE, Inputs, large, options
from torch import Tensor

from lossframe import Loss, drain
from lossframe.losses import CrossEntropyLoss
from lossframe.losses.classification import Classification

FILLINGS = (0.5, torch.nan, torch.inf, -torch.inf)
filled = pytest.mark.parametrize("filling", FILLINGS)


@pytest.fixture(autouse=True)
def _one_thread(threads: None) -> None:
    torch.set_num_threads(1)  # more of them take more rows at a time


def spoilt(inputs: Inputs, left_out: Tensor, filling: float) -> Inputs:
    """Fill what is left out, `[N]`, in every floating input."""
    rows = {name: left_out.reshape(-1, *[1] * (t.ndim - 1)) for name, t in inputs.items()}
    return {name: t.masked_fill(rows[name], filling) if t.is_floating_point() else t for name, t in inputs.items()}


def statistics(criterion: Loss) -> tuple[float, ...]:
    moments = drain({"term": criterion})["term"]["loss"]
    return (moments.count, moments.mean, moments.std, moments.min, moments.max)


@every_loss
@filled
@pytest.mark.parametrize("reduction", ["mean", "sum", "weighted_mean"])
def test_samples_of_weight_0_change_nothing(loss_class: type[Loss], filling: float, reduction: str) -> None:
    row, inputs, weight = TABLE[loss_class], batch(loss_class), weights(loss_class)
    kept = weight != 0
    criterion, other = (row.make(loss_class, reduction=reduction, log_std=True) for _ in range(2))
    value, of_inputs = gradients(criterion, spoilt(inputs, ~kept, filling), weight=weight)
    wanted = gradients(other, change(inputs, lambda t: t[kept]), weight=weight[kept])
    assert_close((value, change(of_inputs, lambda t: t[kept])), wanted)
    assert all((gradient[~kept] == 0).all() for gradient in of_inputs.values())
    torch.testing.assert_close(criterion.state_dict(), other.state_dict(), rtol=1e-12, atol=1e-12)
    assert statistics(criterion) == pytest.approx(statistics(other), rel=1e-9, abs=1e-9)


@every_loss
@filled
def test_unreduced_values_of_samples_of_weight_0_are_zeros(loss_class: type[Loss], filling: float) -> None:
    row, inputs, weight = TABLE[loss_class], batch(loss_class), weights(loss_class)
    kept = weight != 0
    found = row.make(loss_class, reduction="none")(**spoilt(inputs, ~kept, filling), weight=weight)
    wanted = row.make(loss_class, reduction="none")(**change(inputs, lambda t: t[kept]), weight=weight[kept])
    if wanted.ndim:
        assert len(found) == len(weight)
        assert (found[~kept] == 0).all()
    torch.testing.assert_close(found[kept] if wanted.ndim else found, wanted, rtol=1e-11, atol=1e-12)


def of_values(loss_class: type[Loss], n: int) -> list[tuple[dict[str, Any], Inputs]]:
    """List the batches in which a value depends on one element of every input."""
    found = []
    for chosen, inputs in batches(loss_class, n, torch.Generator().manual_seed(n)):
        shapes = {t.shape for t in inputs.values()}
        values = loss_class(**chosen).double().loss(**inputs)
        if shapes == {values.shape} and not issubclass(loss_class, Classification):
            found.append((chosen, inputs))
    return found


ELEMENTWISE = [loss for loss, row in TABLE.items() if loss.reads and not loss.relational and of_values(loss, 2)]


@pytest.mark.parametrize("loss_class", ELEMENTWISE, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize("n", SIZES)
@filled
def test_elements_of_weight_0_change_nothing(loss_class: type[Loss], n: int, filling: float) -> None:
    for chosen, inputs in of_values(loss_class, n):
        shape = next(iter(inputs.values())).shape
        weight = (torch.rand(shape, generator=torch.Generator().manual_seed(n)) < 0.5).double()
        weight.view(-1)[0] = 1
        criterion, other = (loss_class(**chosen).double() for _ in range(2))
        found = gradients(criterion, change(inputs, lambda t, w=weight: t.masked_fill(w == 0, filling)), weight=weight)
        assert_close(found, gradients(other, inputs, weight=weight))
        assert statistics(criterion) == pytest.approx(statistics(other), rel=1e-9, abs=1e-9)


@filled
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_scores_of_an_ignored_target_change_nothing(n: int, smoothing: float, filling: float) -> None:
    g = torch.Generator().manual_seed(n)
    target = torch.randint(0, n, (n, n), generator=g)
    ignored = torch.rand(n, n, generator=g) < 0.5
    ignored[0], ignored[1, 0] = True, False
    logits = torch.randn(n, n, n, generator=g, dtype=torch.float64)
    target = target.masked_fill(ignored, -100)
    criterion, other = (CrossEntropyLoss(smoothing) for _ in range(2))
    found = gradients(criterion, {"logits": logits.masked_fill(ignored[:, None], filling), "target": target})
    assert_close(found, gradients(other, {"logits": logits, "target": target}))
    assert statistics(criterion) == pytest.approx(statistics(other), rel=1e-9)


@every_loss
def test_samples_of_weight_0_change_nothing_in_a_large_batch(loss_class: type[Loss]) -> None:
    inputs = batch(loss_class, large(loss_class))
    n = len(next(iter(inputs.values())))
    weight = (torch.rand(n, generator=torch.Generator().manual_seed(0)) < 0.5).double()
    criterion, other = (loss_class(**options(loss_class)[-1]).double() for _ in range(2))
    found = gradients(criterion, spoilt(inputs, weight == 0, torch.nan), weight=weight)
    assert_close(found, gradients(other, inputs, weight=weight))
