"""The table of other libraries' losses: each row gives the number, the gradient and the defaults that the page says."""

import inspect
import sys
from typing import Any

import pytest
import torch
from conftest import ROOT
from torch import Tensor, nn

from lossframe import Loss

sys.path.insert(0, str(ROOT / "scripts"))
import coming_from
from peers import LIBRARIES, ROWS, Row
from peers.row import reduced

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.library} {row.there}")
WEIGHT = torch.tensor([2.0, 0.0, 0.5, 1.0, 0.0, 3.0], dtype=torch.float64)
WEIGHTED = [
    row
    for row in ROWS
    if row.reduction in ("sum_over_batch_size", "SUM_BY_NONZERO_WEIGHTS", "mean, ignored too")
    and " - " not in row.gives
    and not row.make().relational
]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def given(row: Row, here: Tensor, criterion: Loss, first: Tensor) -> Tensor:
    """Return what a row says the value there is."""
    numbers = {name: value for name, value in vars(criterion).items() if isinstance(value, float)}
    return eval(row.gives, {**numbers, "here": here, "C": first.shape[min(1, first.ndim - 1)], "D": first.shape[-1]})


@every_row
def test_value_and_gradient_there_are_those_of_the_row(row: Row) -> None:
    criterion, inputs = row.make(), row.inputs()
    name, first = next(iter(inputs.items()))
    first.requires_grad_()
    here = given(row, criterion(**{**inputs, name: row.before(first)}), criterion, first)
    there = reduced(row.values(*inputs.values()), row.reduction)
    torch.testing.assert_close(here, there, rtol=row.rtol, atol=1e-12)
    if there.requires_grad:
        gradients = [torch.autograd.grad(value.sum(), first)[0] for value in (here, there)]
        torch.testing.assert_close(*gradients, rtol=row.rtol, atol=row.rtol * float(gradients[1].abs().max()))


@pytest.mark.parametrize("row", WEIGHTED, ids=lambda row: f"{row.library} {row.there}")
def test_reduction_under_weights_there_is_that_of_the_row(row: Row) -> None:
    criterion, inputs = row.make(), row.inputs()
    here = given(row, criterion(**inputs, weight=WEIGHT), criterion, next(iter(inputs.values())))
    there = reduced(row.values(*inputs.values()), row.reduction, WEIGHT)
    torch.testing.assert_close(here, there, rtol=row.rtol, atol=1e-12)


@pytest.mark.parametrize("row", [row for row in ROWS if row.library == "torch"], ids=lambda row: row.there)
def test_defaults_of_torch_are_those_of_the_row(row: Row) -> None:
    parameters = inspect.signature(getattr(nn, row.function)).parameters
    assert {name: parameters[name].default for name in row.defaults_there} == row.defaults_there


@pytest.mark.parametrize("name", ["TripletMarginLoss", "NTXentLoss", "SupConLoss"])
def test_defaults_of_pytorch_metric_learning_are_those_of_the_row(name: str) -> None:
    metric_learning: Any = pytest.importorskip("pytorch_metric_learning.losses")
    row = next(row for row in ROWS if row.library == "pytorch-metric-learning" and row.function == name)
    parameters = inspect.signature(getattr(metric_learning, name)).parameters
    assert row.defaults_there == {key: parameters[key].default for key in row.defaults_there}


def test_every_row_is_of_a_library_of_the_page_and_differs_from_the_others() -> None:
    assert {row.library for row in ROWS} == set(LIBRARIES)
    assert len({(row.library, row.there) for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.library} {row.there}")
def test_docstring_that_speaks_of_a_row_agrees_with_it(row: Row) -> None:
    said = [
        (here, origin)
        for here, origin in coming_from.origins()
        if (origin.library, origin.function) == (row.library, row.function)
    ]
    for here, origin in said:
        assert here is type(row.make())
        assert not origin.difference.startswith("the same") or row.gives == "here"
        assert ("reduction=" in row.call) == (origin.difference.startswith(('`reduction="', '"sum"')))
