"""Faults that a hostile reader found: each is one member of a kind that the properties do not draw."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lossframe import InputError, Loss, NativeLoss, Objective
from lossframe.losses import (
    AuxiliaryLoss,
    BatchHardTripletLoss,
    CrossEntropyLoss,
    L1Loss,
    MSELoss,
    PullAwayLoss,
)


@pytest.mark.parametrize("bad", [torch.log, torch.sqrt, lambda p: p * math.nan, lambda p: (p * 1e30) ** 3])
def test_term_of_weight_0_keeps_the_slopes_of_the_model_out(bad: Any) -> None:
    prediction, head = torch.zeros(3, requires_grad=True), torch.ones(3, requires_grad=True)
    objective = Objective({"a": MSELoss(), "b": AuxiliaryLoss()}, weights={"b": 0.0})
    objective({"prediction": prediction, "target": torch.ones(3), "value": bad(prediction * head)}).backward()
    assert prediction.grad is not None
    assert prediction.grad.tolist() == pytest.approx([-2 / 3] * 3)
    assert head.grad is not None
    assert head.grad.tolist() == [0, 0, 0]


@pytest.mark.parametrize(("calls", "values"), [(70, 4), (2, 70_000)])
def test_functional_gradients_record_values_of_any_number(calls: int, values: int) -> None:
    criterion = MSELoss(log_quantiles=True)
    for _ in range(calls):
        torch.func.grad(criterion)(torch.ones(values), torch.zeros(values))
    assert criterion.moments()["loss"].count == calls * values
    assert criterion.avg == {"loss": 1.0}


@pytest.mark.parametrize("weight", [[1e38] * 4, [1e-50] * 4, [1e-38] * 4, 1e30])
@pytest.mark.parametrize("value", [1e-10, 0.1, 1e5])
def test_weighted_mean_does_not_depend_on_the_scale_of_weights(weight: Any, value: float) -> None:
    found = L1Loss(reduction="weighted_mean")(torch.full((4,), value), torch.zeros(4), weight=weight)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(value)


def test_values_of_half_precision_are_reduced_in_float32() -> None:
    half = NativeLoss(lambda p, t: (p.half() - t.half()).abs(), relational=False)
    assert half(torch.ones(70_000), torch.zeros(70_000), weight=torch.ones(70_000)) == 1
    assert half(torch.ones(4), torch.zeros(4), weight=[1e-8] * 4).item() == pytest.approx(1e-8)


def test_nan_in_a_left_out_soft_target_stays_out_of_the_weighted_mean() -> None:
    criterion = CrossEntropyLoss(class_weight=[1.0, 2.0], reduction="weighted_mean")
    value = criterion(torch.zeros(2, 2), torch.tensor([[0.5, 0.5], [math.nan, math.nan]]), weight=[1.0, 0.0])
    assert value.item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("weight", [0, [0] * 4, torch.zeros(4), torch.tensor(0.0), np.float32(0)])
def test_native_loss_of_nothing_that_counts_is_a_zero_with_gradient(weight: Any) -> None:
    prediction = torch.ones(4, 3, requires_grad=True)
    value = NativeLoss(lambda p, t: (p - t).square().mean())(prediction, torch.zeros(4, 3), weight=weight)
    value.backward()
    assert value == 0
    assert prediction.grad is not None
    assert prediction.grad.abs().sum() == 0
    assert NativeLoss(nn.CrossEntropyLoss())(torch.zeros(4, 3), torch.zeros(4).long(), weight=weight) == 0


@pytest.mark.parametrize("weight", [0.0, torch.tensor(0.0), torch.tensor(0), np.float32(0)])
def test_scalar_weight_of_0_keeps_nan_out_of_a_relational_loss(weight: Any) -> None:
    for criterion, labels in ((BatchHardTripletLoss(), [torch.tensor([0, 0, 1, 1])]), (PullAwayLoss(), [])):
        embeddings = torch.full((4, 3), math.nan, requires_grad=True)
        criterion(embeddings, *labels, weight=weight).backward()
        assert embeddings.grad is not None
        assert embeddings.grad.abs().sum() == 0


def test_vmap_over_the_weight_names_the_pure_function() -> None:
    with pytest.raises(InputError, match=r"criterion\.loss"):
        torch.vmap(lambda weight: MSELoss()(torch.ones(3), torch.zeros(3), weight=weight))(torch.ones(2, 3))


def test_complex_values_of_an_own_loss_are_an_input_error() -> None:
    class Spectrum(Loss):
        def loss(self, prediction: Tensor) -> Tensor:
            return torch.fft.fft(prediction)

    with pytest.raises(InputError, match=r"wanted real values from loss\(...\), found torch.complex64"):
        Spectrum()(torch.ones(4))


def test_logged_value_cannot_take_the_name_of_the_loss() -> None:
    with pytest.raises(InputError, match="named 'loss'"):
        MSELoss().log("loss", 1.0)


def test_logged_number_keeps_its_digits() -> None:
    criterion = MSELoss()
    criterion.log("count", 16_777_217)
    criterion.log("third", 1 / 3)
    assert criterion.avg == {"count": 16_777_217, "third": 1 / 3}
