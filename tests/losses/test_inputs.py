"""Inputs of a call: dtypes of labels, precision, copies, transforms, odd dtypes and shapes."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from table import TABLE
from torch import Tensor, nn

from lossframe import InputError, Loss, NativeLoss, Statistics
from lossframe.losses import (
    BatchAllTripletLoss,
    BinaryCrossEntropyLoss,
    BinaryFocalLoss,
    CategoricalAccuracy,
    CenterLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    HingeLoss,
    L1L2Penalty,
    LogLoss,
    MSELoss,
    PairContrastiveLoss,
    SupConLoss,
)

INTEGERS = [
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16, torch.uint32, torch.uint64,
]  # fmt: skip


@pytest.mark.parametrize("dtype", INTEGERS)
def test_label_of_any_integer_dtype_equals_int64(dtype: torch.dtype) -> None:
    features, labels = torch.tensor([[10.0, 0.0], [0.0, 0.0]]), torch.tensor([1, 0])
    one, other = CenterLoss(2, 2), CenterLoss(2, 2)
    assert one(features, labels.to(dtype)) == other(features, labels) == 25
    assert torch.equal(one.centers, other.centers)
    logits = torch.tensor([[0.0, 1.0], [3.0, 1.0]])
    assert torch.equal(CrossEntropyLoss()(logits, labels.to(dtype)), CrossEntropyLoss()(logits, labels))
    assert BatchAllTripletLoss()(features, labels.to(dtype)) == 0


def test_uint8_label_156_is_no_ignored_label() -> None:
    logits = torch.zeros(1, 200)
    value = CrossEntropyLoss()(logits, torch.tensor([156], dtype=torch.uint8))
    assert value.item() == pytest.approx(math.log(200))


def test_uint64_label_beyond_int64_is_an_input_error() -> None:
    labels = torch.tensor([2**63 + 1, 0], dtype=torch.uint64)
    with pytest.raises(InputError, match=r"below 2\^63"):
        BatchAllTripletLoss()(torch.zeros(2, 2), labels)


def test_bool_labels_equal_classes_0_and_1() -> None:
    embeddings, labels = torch.randn(6, 3), torch.tensor([True, True, False, True, False, False])
    for criterion in (BatchAllTripletLoss(), SupConLoss(), CenterLoss(2, 3).eval()):
        assert torch.equal(criterion(embeddings, labels), criterion(embeddings, labels.long()))
    for scored in (CrossEntropyLoss(), FocalLoss(), DiceLoss(), CategoricalAccuracy()):
        logits, mask = torch.randn(2, 2, 3), torch.tensor([[True, False, True], [False, False, True]])
        assert torch.equal(scored(logits, mask), scored(logits, mask.long()))


def test_bool_input_of_an_own_loss_stays_a_mask() -> None:
    class Masked(Loss):
        def loss(self, prediction: Tensor, mask: Tensor) -> Tensor:
            return prediction[mask]

    assert Masked()(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([True, False, False])) == 1


@pytest.mark.parametrize(
    "criterion",
    [BinaryCrossEntropyLoss(), BinaryFocalLoss(), HingeLoss(), LogLoss(), PairContrastiveLoss(), MSELoss()],
)
def test_complex_target_is_an_input_error(criterion: Loss) -> None:
    with pytest.raises(InputError, match=r"wanted a real target, found torch.complex64"):
        criterion(torch.full((2,), 0.5), torch.ones(2, dtype=torch.complex64))
    with pytest.raises(InputError, match=r"found torch.complex64; take its .real part"):
        criterion(torch.ones(2, dtype=torch.complex64), torch.ones(2))


@pytest.mark.parametrize("criterion", [CrossEntropyLoss(), FocalLoss(), DiceLoss(), CategoricalAccuracy()])
@pytest.mark.parametrize("channels", [0, 1])
def test_logits_of_one_channel_raise_an_error_that_names_the_binary_loss(criterion: Loss, channels: int) -> None:
    with pytest.raises(InputError, match=r"at least 2 classes on dim 1, .* BinaryCrossEntropyLoss"):
        criterion(torch.zeros(3, channels, 4), torch.zeros(3, 4, dtype=torch.long))


@pytest.mark.parametrize("shape", [(), (0,), (3,), (0, 2), (3, 0), (3, 0, 2), (3, 2, 1), (0, 0)])
@pytest.mark.parametrize("loss_class", [loss for loss in TABLE if loss.reads], ids=lambda loss: loss.__name__)
def test_odd_shape_is_an_input_error_or_has_a_value(loss_class: type[Loss], shape: tuple[int, ...]) -> None:
    samples = shape[0] if shape else 1
    for of_labels in ((samples,), shape):
        inputs = {
            name: torch.zeros(of_labels if name in loss_class.class_inputs else shape)
            for name in loss_class.reads
            if name not in loss_class.optional
        }
        inputs |= {name: inputs[name].long() for name in loss_class.class_inputs if name in inputs}
        message, value = "want", torch.zeros(())
        try:
            value = TABLE[loss_class].make(loss_class).float()(**inputs)
        except InputError as error:
            message = str(error)
        assert "want" in message
        assert not value.isnan()


@pytest.mark.parametrize("given", [None, "men", 3])
def test_unknown_reduction_lists_the_known_ones(given: Any) -> None:
    with pytest.raises(
        InputError, match=r"it is one of 'mean', 'sum', 'none', 'weighted_mean', 'batch_mean', 'element_mean'"
    ):
        MSELoss(reduction=given)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_state_made_under_a_half_default_dtype_is_float32(dtype: torch.dtype) -> None:
    class Learned(Loss):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def loss(self, value: Tensor) -> Tensor:
            return self.scale * value

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        center, learned = CenterLoss(2, 3), Learned()
    finally:
        torch.set_default_dtype(before)
    assert center.centers.dtype == learned.scale.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_penalty_of_a_half_model_is_computed_in_float32(dtype: torch.dtype) -> None:
    model = nn.Linear(1000, 1000, bias=False).to(dtype)
    nn.init.constant_(model.weight, 0.5)
    value = L1L2Penalty(l2=1.0)(model)
    assert value.dtype == torch.float32
    assert value == 125_000
    value.backward()
    assert model.weight.grad is not None
    assert (model.weight.grad == 0.5).all()


@pytest.mark.parametrize("returned", [lambda p: p, lambda p: p[:], lambda p: p.view(2, 2), lambda p: p.detach()])
def test_input_that_a_formula_returns_may_change_after_the_call(returned: Callable[[Tensor], Tensor]) -> None:
    prediction, criterion = torch.tensor([1.0, 2.0, 3.0, 4.0]), NativeLoss(lambda p, t: returned(p), reduction="none")
    values = criterion(prediction, prediction)
    prediction.zero_()
    assert criterion.avg == {"loss": 2.5}
    assert values.sum() == 10


def test_state_that_a_formula_returns_may_change_after_the_call() -> None:
    class Temperature(Loss):
        def __init__(self) -> None:
            super().__init__()
            self.temperature = nn.Parameter(torch.ones(()))

        def loss(self, value: Tensor) -> Tensor:
            return self.temperature

    criterion = Temperature()
    criterion(torch.ones(2))
    criterion.temperature.data.fill_(7.0)
    assert criterion.avg == {"loss": 1.0}


def test_quantiles_recorded_in_inference_mode_continue_outside_of_it() -> None:
    criterion, statistics = MSELoss(log_quantiles=True), Statistics(quantiles=True)
    with torch.inference_mode():
        statistics.reset()
        for values in (torch.ones(3), torch.ones(70_000)):
            criterion(values, torch.zeros_like(values))
            statistics.update(values)
        assert criterion.avg == {"loss": 1.0}
        criterion.load_state_dict(criterion.state_dict())
    criterion(torch.ones(2, requires_grad=True), torch.zeros(2)).backward()
    statistics.update(torch.ones(2))
    seen = criterion.moments()["loss"]
    assert seen.count == statistics.compute()["count"] == 70_005
    assert seen.quantile(0.5) == 1


def test_parameter_as_class_weight_is_copied() -> None:
    weight = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    criterion = CrossEntropyLoss(class_weight=weight)
    wanted = criterion(torch.zeros(2, 2), torch.tensor([0, 1]))
    weight.data.zero_()
    assert torch.equal(copy.deepcopy(criterion)(torch.zeros(2, 2), torch.tensor([0, 1])), wanted)


def test_vmap_over_a_call_raises_an_error_that_names_the_pure_function() -> None:
    criterion, logits, target = CrossEntropyLoss(), torch.randn(5, 4, 3), torch.randint(0, 3, (5, 4))
    with pytest.raises(InputError, match=r"criterion.loss"):
        torch.vmap(criterion)(logits, target)
    with pytest.raises(InputError, match=r"criterion.loss"):
        torch.vmap(torch.func.grad(criterion))(logits, target)
    mapped = torch.vmap(criterion.loss)(logits, target)
    assert torch.allclose(mapped, torch.stack([criterion.loss(*row) for row in zip(logits, target, strict=True)]))


def test_func_grad_of_a_call_records_its_values() -> None:
    criterion, prediction = MSELoss(), torch.tensor([1.0, 3.0])
    assert torch.func.grad(criterion)(prediction, torch.zeros(2)).tolist() == [1, 3]
    hessian = torch.func.jacrev(torch.func.grad(criterion))(prediction, torch.zeros(2))
    assert torch.equal(hessian, torch.eye(2))
    assert criterion.avg == {"loss": 5.0}


def test_formula_that_returns_no_tensor_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"wanted a tensor of values from loss\(...\), found float"):
        NativeLoss(lambda p, t: 1.0)(torch.ones(2), torch.ones(2))
