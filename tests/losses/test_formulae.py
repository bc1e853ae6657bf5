"""Formulae at delicate points: offsets, missing classes, certain answers, zero vectors, and refused parameters."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lossframe import InputError, Loss, Objective, losses

N, C = 6, 4
CLASS_WEIGHT = torch.tensor([0.5, 1.0, 2.0, 0.1], dtype=torch.float64)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def classes(*shape: int) -> Tensor:
    return torch.randint(0, C, shape)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_auc_of_offset_float32_scores_equals_all_pairs(offset: float) -> None:
    scores, target = offset + 2 * torch.rand(3000) - 1, torch.rand(3000) < 0.3
    scores.requires_grad_()
    pairs = (0.2 - (scores.double()[target][:, None] - scores.double()[~target])).clamp_min(0) ** 3
    found, wanted = losses.ROCAUCLoss()(scores, target), pairs.mean()
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(x, scores)[0] for x in (found, wanted)), rtol=1e-4, atol=1e-9)


def test_auc_pools_columns_and_counts_any_label_but_0_as_positive() -> None:
    scores, target = normal(4, 3), torch.tensor([[0, 2, 0], [-1, 0, 0], [0, 0, 1], [0, 1, 0]])
    flat = losses.ROCAUCLoss()(scores.reshape(-1), target.reshape(-1) != 0)
    torch.testing.assert_close(losses.ROCAUCLoss()(scores, target), flat)


@pytest.mark.parametrize("labels", [0, 1])
def test_auc_of_one_class_is_zero_with_gradient(labels: int) -> None:
    scores = torch.randn(5, requires_grad=True)
    value = losses.ROCAUCLoss()(scores, torch.full((5,), labels))
    assert value == 0
    assert torch.autograd.grad(value, scores)[0].eq(0).all()


def test_auc_statistics_count_pairs() -> None:
    criterion = losses.ROCAUCLoss(margin=1.0, power=1)
    criterion(torch.tensor([0.0, 0.5, 0.0]), torch.tensor([1, 1, 0]))
    assert criterion.avg["loss"] == pytest.approx(0.75)  # 1 and 0.5, from one negative each


def test_kappa_of_one_grade_is_right() -> None:
    right = torch.tensor([[1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    value = losses.QuadraticWeightedKappaLoss(2)(right, torch.tensor([0, 0]))
    assert value == -1
    assert torch.autograd.grad(value, right)[0].eq(0).all()


def test_kappa_of_indices_equals_that_of_one_hot_labels() -> None:
    probabilities, target = normal(N, C).softmax(1), classes(N)
    for criterion in (losses.QuadraticWeightedKappaLoss(C), losses.KappaLogLoss(C), losses.ClippedKappaLogLoss(C)):
        wanted = criterion(probabilities, F.one_hot(target, C).double())
        torch.testing.assert_close(criterion(probabilities, target), wanted)
        torch.testing.assert_close(criterion(probabilities, target[:, None]), wanted)


@pytest.mark.parametrize("gamma", [0.0, 0.01, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("size", [1.0, 20.0, 100.0, 1e4])
def test_focal_gradients_of_certain_right_answers_are_finite(gamma: float, size: float) -> None:
    logits = torch.tensor([[size, -size], [-size, size]], requires_grad=True)
    for criterion, target in (
        (losses.FocalLoss(gamma), torch.tensor([0, 1])),
        (losses.FocalLoss(gamma), torch.tensor([1, 0])),
        (losses.BinaryFocalLoss(gamma), (logits > 0).long()),
        (losses.BinaryFocalLoss(gamma), (logits < 0).long()),
    ):
        value = criterion(logits, target)
        (gradient,) = torch.autograd.grad(value, logits, create_graph=True)
        assert value.isfinite()
        assert gradient.isfinite().all()
        assert torch.autograd.grad(gradient.square().sum(), logits)[0].isfinite().all()


def test_class_weights_agree_for_indices_and_probabilities() -> None:
    logits, target = normal(N, C), classes(N)
    for reduction in ("mean", "sum", "none", "weighted_mean"):
        criterion = losses.CrossEntropyLoss(0.1, CLASS_WEIGHT, reduction=reduction)
        torch.testing.assert_close(criterion(logits, target), criterion(logits, F.one_hot(target, C).double()))


def test_class_weights_keep_their_precision() -> None:
    criterion = losses.CrossEntropyLoss(class_weight=[0.1, 0.3])
    assert criterion(torch.zeros(1, 2, dtype=torch.float64), torch.tensor([0])).item() == 0.1 * math.log(2)


@pytest.mark.parametrize("dtype", [torch.long, torch.bool, torch.float32])
def test_smoothed_targets_have_the_precision_of_the_logits(dtype: torch.dtype) -> None:
    criterion, logits, target = losses.BinaryCrossEntropyLoss(label_smoothing=0.1), normal(N, C), classes(N, C) % 2
    assert torch.equal(criterion(logits, target.to(dtype)), criterion(logits, target.double()))


def test_cosine_distance_of_a_zero_vector_is_1() -> None:
    prediction = torch.zeros(2, 3, requires_grad=True)
    value = losses.CosineDistanceLoss(normalize=True)(prediction, torch.ones(2, 3))
    assert value == 1
    assert torch.autograd.grad(value, prediction)[0].isfinite().all()


def test_pairwise_error_of_one_element_is_0() -> None:
    prediction = torch.tensor([3.0, 4.0], requires_grad=True)
    value = losses.MeanPairwiseSquaredErrorLoss()(prediction, torch.zeros(2))
    assert value == 0
    assert torch.autograd.grad(value, prediction)[0].eq(0).all()


def test_a_row_of_zeros_has_the_lowest_probability() -> None:
    criterion = losses.CategoricalCrossEntropyLoss(eps=1e-3, normalize=True)
    scores = torch.zeros(1, 3, requires_grad=True)
    value = criterion(scores, torch.tensor([1]))
    assert value.item() == pytest.approx(-math.log(1e-3))
    assert torch.autograd.grad(value, scores)[0].isfinite().all()


def test_accuracy_has_weight_0_in_an_objective_by_default() -> None:
    frame = {"logits": normal(N, C), "target": classes(N)}
    terms = {"ce": losses.CrossEntropyLoss(), "accuracy": losses.CategoricalAccuracy()}
    assert Objective(terms)(frame) == terms["ce"](**frame)
    assert Objective(terms, weights={"accuracy": 1.0})(frame) != terms["ce"](**frame)


@pytest.mark.parametrize(
    ("criterion", "inputs", "message"),
    [
        (losses.HingeLoss(), (torch.zeros(2), torch.tensor([-1, 1])), r"target within \[0, 1\]"),
        (losses.HingeLoss(labels="signed"), (torch.zeros(2), torch.tensor([2, 1])), r"target within \[-1, 1\]"),
        (losses.LogLoss(), (torch.tensor([1.5]), torch.tensor([1])), r"probabilities within \[0, 1\]"),
        (losses.L1Loss(), (torch.zeros(3), torch.zeros(3, 1)), r"prediction \[3\] and target \[3, 1\]"),
        (losses.GaussianNLLLoss(), (torch.zeros(3), torch.zeros(3), torch.ones(3, 1)), r"variance \[3, 1\]"),
        (losses.ROCAUCLoss(), (torch.zeros(3), torch.zeros(3, 1)), r"scores \[3\] and target \[3, 1\]"),
        (losses.CosineDistanceLoss(dim=0), (torch.zeros(3, 2), torch.zeros(3, 2)), "beside the samples"),
        (losses.CosineDistanceLoss(dim=2), (torch.zeros(3, 2), torch.zeros(3, 2)), "dim 2"),
        (losses.QuadraticWeightedKappaLoss(3), (torch.zeros(3, 2), torch.zeros(3, 2)), "size 3 in dim 1"),
        (losses.BinaryCrossEntropyLoss(pos_weight=[1.0, 2.0]), (torch.zeros(3, 3), torch.zeros(3, 3)), "3 numbers"),
        (losses.FocalLoss(alpha=[1.0, 2.0]), (torch.zeros(3, 3), torch.zeros(3).long()), "3 numbers in alpha"),
        (losses.DiscretizedLogisticMixtureLoss(2), (torch.zeros(1, 9, 2, 2), torch.zeros(1, 3, 2, 2)), r"\[N, 20"),
    ],
)
def test_input_that_does_not_fit_the_formula_is_named(
    criterion: Loss, inputs: tuple[Tensor, ...], message: str
) -> None:
    with pytest.raises(InputError, match=rf"^{type(criterion).__name__}: .*{message}"):
        criterion(*inputs)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.HingeLoss(labels="singed"), "Did you mean 'signed'"),
        (lambda: losses.ROCAUCLoss(power=2.5), "whole number power"),
        (lambda: losses.ROCAUCLoss(margin=0.0), "margin > 0"),
        (lambda: losses.QuantileLoss(quantile=2), "quantile within"),
        (lambda: losses.FocalLoss(gamma=-1), "gamma >= 0"),
        (lambda: losses.CrossEntropyLoss(class_weight=[1.0, -1.0]), "class_weight"),
        (lambda: losses.KappaLogLoss(1), "num_classes >= 2"),
        (lambda: losses.KappaLogLoss(3, log_term="binar"), "Did you mean 'binary'"),
        (lambda: losses.CosineDistanceLoss(dim=None), "whole number dim"),
    ],
)
def test_parameter_out_of_range_is_an_input_error(make: Callable[[], Loss], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
