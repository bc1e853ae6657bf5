"""Reductions of values under weights: alignment, denominators, empty batches."""

import inspect
import json
import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from table import TABLE

from lossframe import InputError, Loss
from lossframe.losses import MSELoss
from lossframe.losses.base.reduction import REDUCTIONS, align, reduce


@pytest.mark.parametrize(
    ("shape", "weight", "aligned"),
    [
        ((4, 3), (), ()),
        ((4, 3), (1,), ()),
        ((4, 3), (4,), (4, 1)),
        ((4, 3), (4, 1), (4, 1)),
        ((4, 3), (1, 3), (1, 3)),
        ((4, 3, 2), (4, 3), (4, 3, 1)),
        ((4,), (4, 1), (4,)),
        ((), (1,), ()),
    ],
)
def test_weights_align_from_the_left(shape: Any, weight: Any, aligned: Any) -> None:
    assert align(torch.ones(weight), torch.zeros(shape)).shape == aligned


@pytest.mark.parametrize("weight", [(3,), (4, 2), (4, 3, 2), (2, 1), (3, 1)])
def test_weight_that_does_not_align_is_an_input_error(weight: Any) -> None:
    with pytest.raises(InputError, match=r"does not fit values \[4, 3\]"):
        align(torch.ones(weight), torch.zeros(4, 3))


def test_each_reduction_has_its_denominator() -> None:
    values, weight = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), torch.tensor([2.0, 0.0, -1.0])
    expected = {"sum": -5.0, "mean": -5 / 4, "weighted_mean": -5 / 2, "batch_mean": -5 / 3, "element_mean": -5 / 6}
    for reduction, value in expected.items():
        assert reduce(values, weight, reduction).item() == pytest.approx(value)  # type: ignore[arg-type]
    assert reduce(values, weight, "none").tolist() == [[2, 4], [0, 0], [-5, -6]]
    with pytest.raises(InputError, match="Did you mean 'mean'"):
        reduce(values, None, "maen")  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.floats(-10, 10), st.sampled_from([0.0, 0.5, 1.0, -2.0])), max_size=8))
def test_mean_divides_by_the_number_of_nonzero_weights_as_tensorflow(pairs: list[tuple[float, float]]) -> None:
    values = torch.tensor([v for v, _ in pairs], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([w for _, w in pairs], dtype=torch.float64)
    present = sum(w != 0 for _, w in pairs)
    result = reduce(values, weight)
    result.backward()
    assert result.item() == pytest.approx(sum(v * w for v, w in pairs) / max(present, 1), abs=1e-12)
    assert values.grad is not None
    assert values.grad.tolist() == pytest.approx([w / max(present, 1) for _, w in pairs])


@pytest.mark.parametrize("rows", [0, 4])
def test_batch_without_counted_values_has_value_and_gradient_0(rows: int) -> None:
    prediction = torch.randn(rows, 2, requires_grad=True)
    value = MSELoss()(prediction, torch.zeros(rows, 2), weight=torch.zeros(rows))
    value.backward()
    assert value.item() == 0
    assert prediction.grad is not None
    assert prediction.grad.abs().sum() == 0


def test_table_of_reductions_shows_the_numbers_of_its_example() -> None:
    values, weight = torch.tensor([[4.0, 1.0], [2.0, 3.0], [5.0, 6.0]]), torch.tensor([2.0, 0.5, 0.0])
    rows = re.findall(r"^\| `(\w+)`.*?\| `.*?` \| (.*?) \|", inspect.getdoc(reduce) or "", re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(REDUCTIONS)
    for name, shown in rows:
        wanted = torch.tensor(json.loads(shown.strip("`")))
        torch.testing.assert_close(reduce(values, weight, name), wanted, rtol=1e-4, atol=0)


@pytest.mark.parametrize("loss", [loss for loss in TABLE if loss.reads], ids=lambda loss: loss.__name__)
def test_element_mean_is_the_mean_of_the_unreduced_values(loss: type[Loss]) -> None:
    row = TABLE[loss]
    inputs = row.inputs(9, torch.Generator().manual_seed(0))
    weight = torch.tensor([2.0, 0.0, 0.5, 1.0, 0.0, 3.0, 1.0, 0.0, 1.0]).double()
    for given_weight in (None, weight if row.per_sample else weight.clamp(max=1).ceil()):
        found, values = (
            row.make(loss, reduction=reduction)(**inputs, weight=given_weight) for reduction in ("element_mean", "none")
        )
        torch.testing.assert_close(found, values.mean())
