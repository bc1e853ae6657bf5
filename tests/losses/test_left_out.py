"""Values left out by a weight of 0 or an ignored target: their gradients, NaN in them, and checks of the others."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lossframe import InputError, Loss, NativeLoss, Objective
from lossframe.losses import (
    BatchHardTripletLoss,
    BinaryCrossEntropyLoss,
    CategoricalCrossEntropyLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    GaussianNLLLoss,
    LogLoss,
    MSELoss,
    PullAwayLoss,
    QuadraticWeightedKappaLoss,
)

SEED = torch.Generator().manual_seed(0)


def gradient(value: Tensor, by: Tensor) -> Tensor:
    return torch.autograd.grad(value, by)[0]


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("dims", [1, 2])
def test_gradient_equals_torchs_with_as_many_classes_as_positions(size: int, dims: int) -> None:
    positions = [size] * dims
    logits = torch.randn(size, size, *positions, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, size, (size, *positions))
    target.view(-1)[::3] = -100
    wanted = gradient(F.cross_entropy(logits, target), logits)
    assert torch.allclose(gradient(CrossEntropyLoss()(logits, target), logits), wanted, rtol=1e-12)
    weight = torch.rand(size, *positions, dtype=torch.float64).round(decimals=0)
    weight.view(-1)[1] = 2
    values = F.cross_entropy(logits, target, reduction="none") * weight
    wanted = gradient(values.sum() / ((weight != 0) & (target != -100)).sum(), logits)
    assert torch.allclose(gradient(CrossEntropyLoss()(logits, target, weight=weight), logits), wanted, rtol=1e-12)
    soft = torch.rand_like(logits).softmax(1)
    for criterion in (CrossEntropyLoss(), FocalLoss(alpha=0.5)):
        plain = criterion.loss(logits, soft) * weight
        wanted = gradient(plain.sum() / (weight != 0).sum(), logits)
        assert torch.allclose(gradient(criterion(logits, soft, weight=weight), logits), wanted, rtol=1e-12)


def test_class_left_out_of_dice_keeps_the_gradient_of_its_logits() -> None:
    logits = torch.randn(1, 2, 1, 2, dtype=torch.float64, requires_grad=True)
    found = gradient(DiceLoss()(logits, torch.tensor([[[0, 1]]]), weight=[[0.0, 1.0]]), logits)
    assert found.abs().min() > 0
    assert torch.allclose(found[:, 0], -found[:, 1])


class Mixing(Loss):
    """Values `[n, c]`, each of which depends on all scores of its row."""

    def loss(self, scores: Tensor) -> Tensor:
        return -scores.log_softmax(1)


@pytest.mark.parametrize("n", [2, 3])
def test_own_loss_whose_values_share_inputs_has_the_gradient_of_its_formula(n: int) -> None:
    scores = torch.randn(n, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])[:n].double()
    wanted = gradient((Mixing().loss(scores) * weight).sum() / (weight != 0).sum(), scores)
    assert torch.allclose(gradient(Mixing()(scores, weight=weight), scores), wanted, rtol=1e-12)


class Prototypes(Loss):
    """Squared distance of every sample to the nearest row of a table."""

    def loss(self, features: Tensor, prototypes: Tensor) -> Tensor:
        return (features[:, None] - prototypes).square().sum(2).amin(1)


@pytest.mark.parametrize("weight", [[0.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
def test_table_with_as_many_rows_as_the_batch_keeps_its_gradient(weight: list[float]) -> None:
    features, table = (torch.randn(3, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    w = torch.tensor(weight, dtype=torch.float64)
    wanted = gradient((Prototypes().loss(features, table) * w).sum() / (w != 0).sum().clamp_min(1), table)
    assert torch.allclose(gradient(Prototypes()(features, table, weight=weight), table), wanted)


def test_nan_in_a_left_out_sample_of_an_own_loss_gives_zero_gradient() -> None:
    scores = torch.tensor([[math.nan, 1.0, 2.0], [0.0, 1.0, 3.0]], requires_grad=True)
    value = Mixing()(scores, weight=[0.0, 1.0])
    assert value.isfinite()
    found = gradient(value, scores)
    assert found[0].tolist() == [0, 0, 0]
    assert torch.equal(found[1:], gradient(Mixing()(scores[1:]), scores)[1:])


@pytest.mark.parametrize("weight", [0.0, torch.tensor(0.0), [0.0, 0.0]])
def test_weight_of_0_in_any_form_leaves_nan_out(weight: Any) -> None:
    prediction = torch.tensor([math.nan, math.inf], requires_grad=True)
    value = MSELoss()(prediction, torch.zeros(2), weight=weight)
    assert value == 0
    assert gradient(value, prediction).tolist() == [0, 0]
    embeddings = torch.full((2, 2), math.nan, requires_grad=True)
    if not isinstance(weight, Tensor):
        value = PullAwayLoss()(embeddings, weight=weight)
        assert value == 0
        assert gradient(value, embeddings).tolist() == [[0, 0], [0, 0]]


def test_learned_weight_gets_no_nan_from_a_left_out_value() -> None:
    weight = torch.tensor([0.0, 2.0], requires_grad=True)
    value = MSELoss(reduction="sum")(torch.tensor([math.nan, 3.0]), torch.zeros(2), weight=weight)
    assert gradient(value, weight).tolist() == [0, 9]


@pytest.mark.parametrize(
    ("criterion", "inputs"),
    [
        (GaussianNLLLoss(), {"prediction": [1.0, 2.0], "target": [math.nan, 1.0], "variance": [1.0, 1.0]}),
        (GaussianNLLLoss(), {"prediction": [1.0, 2.0], "target": [1.0, 1.0], "variance": [-1.0, 1.0]}),
        (LogLoss(), {"probabilities": [math.nan, 0.5], "target": [1.0, 1.0]}),
        (LogLoss(), {"probabilities": [0.5, 0.5], "target": [7.0, 1.0]}),
        (BinaryCrossEntropyLoss(), {"logits": [0.0, 0.5], "target": [math.nan, 1.0]}),
        (CategoricalCrossEntropyLoss(), {"probabilities": [[math.nan, 2.0], [0.5, 0.5]], "target": [0, 1]}),
        (CrossEntropyLoss(), {"logits": [[0.0, 1.0], [0.5, 0.5]], "target": [[math.nan, 2.0], [0.5, 0.5]]}),
    ],
)
def test_checks_ignore_values_of_weight_0(criterion: Loss, inputs: dict[str, Any]) -> None:
    tensors = {name: torch.tensor(rows) for name, rows in inputs.items()}
    kept = {name: tensor[1:] for name, tensor in tensors.items()}
    assert torch.equal(criterion(**tensors, weight=[0.0, 1.0]), criterion(**kept))
    assert criterion(**tensors, weight=[0.0, 0.0]) == 0
    with pytest.raises(InputError):
        criterion(**tensors, weight=[1.0, 1.0])


def test_check_reports_the_range_of_the_values_that_count() -> None:
    probabilities, target = torch.tensor([math.nan, 2.0, 0.5]), torch.ones(3)
    with pytest.raises(InputError, match=r"within \[0, 1\], found 0.5 to 2"):
        LogLoss()(probabilities, target, weight=[0.0, 1.0, 1.0])


def test_unreduced_relational_loss_has_a_zero_row_for_a_left_out_sample() -> None:
    embeddings = torch.tensor([[0.0], [9.0], [1.0], [3.0], [3.5]], requires_grad=True)
    labels, weight = torch.tensor([0, 1, 0, 1, 1]), torch.tensor([1.0, 0.0, 2.0, 1.0, 1.0])
    kept = weight != 0
    values = BatchHardTripletLoss(margin=4.0, reduction="none")(embeddings, labels, weight=weight)
    alone = BatchHardTripletLoss(margin=4.0, reduction="none")(embeddings[kept], labels[kept], weight=weight[kept])
    assert values.shape == (5,)
    assert torch.equal(values[kept], alone)
    assert values[1] == 0
    assert torch.equal(gradient(values.sum(), embeddings), gradient(alone.sum(), embeddings))
    assert BatchHardTripletLoss(reduction="none")(embeddings, labels, weight=[0] * 5).tolist() == [0] * 5


@pytest.mark.parametrize(
    "form", [list, tuple, torch.tensor, lambda w: torch.tensor(w).numpy(), lambda w: torch.tensor(w).bool()]
)
def test_weight_means_the_same_in_every_form(form: Any) -> None:
    embeddings, labels = torch.tensor([[0.0], [9.0], [1.0], [3.0], [3.5]]), torch.tensor([0, 1, 0, 1, 1])
    weight = [1.0, 0.0, 1.0, 1.0, 1.0]
    wanted = BatchHardTripletLoss(margin=4.0)(embeddings[[0, 2, 3, 4]], labels[[0, 2, 3, 4]])
    assert torch.equal(BatchHardTripletLoss(margin=4.0)(embeddings, labels, weight=form(weight)), wanted)
    spoilt = torch.tensor([1.0, math.nan, 1.0, 2.0, 2.0])
    assert MSELoss()(spoilt, torch.zeros(5), weight=form(weight)) == 2.5


@pytest.mark.parametrize("weight", ["1, 0", {"a": 1}, [[1.0], [1.0, 2.0]], torch.tensor([1j, 1])])
def test_weight_without_numbers_is_an_input_error(weight: Any) -> None:
    with pytest.raises(InputError, match="wanted"):
        MSELoss()(torch.ones(2), torch.zeros(2), weight=weight)


def test_weight_per_sample_of_dice_over_a_batch_is_an_input_error() -> None:
    logits, target = torch.randn(1, 3, 4), torch.randint(0, 3, (1, 4))
    with pytest.raises(InputError, match="one value for the whole batch"):
        DiceLoss(batch=True)(logits, target, weight=[2.0])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_term_of_weight_0_is_absent_from_total_and_gradients(bad: float) -> None:
    objective = Objective({"good": MSELoss(), "bad": MSELoss()}, {"bad": 0.0}, {"bad": {"prediction": "other"}})
    good, other = torch.tensor([2.0], requires_grad=True), torch.tensor([bad], requires_grad=True)
    head = torch.ones(1, requires_grad=True)
    total = objective({"prediction": good, "other": other * head, "target": torch.zeros(1)})
    total.backward()
    assert total == 4
    assert good.grad is not None
    assert good.grad.tolist() == [4]
    assert head.grad is not None  # under data parallelism a head without a gradient is an error
    assert objective.terms({"prediction": good, "other": other, "target": torch.zeros(1)})["bad"] == 0
    assert objective.losses["bad"].moments()["loss"].nonfinite == 2


def test_mean_is_finite_where_only_the_sum_overflows() -> None:
    prediction = torch.full((4,), 1.5e19, requires_grad=True)
    value = MSELoss()(prediction, torch.zeros(4))
    assert value.item() == pytest.approx(2.25e38)
    assert gradient(value, prediction).tolist() == pytest.approx([0.75e19] * 4)
    assert MSELoss(reduction="sum")(prediction, torch.zeros(4)).item() == math.inf
    assert NativeLoss(torch.nn.MSELoss())(prediction, torch.zeros(4)).item() == pytest.approx(2.25e38)


def test_kappa_of_no_sample_is_zero() -> None:
    probabilities = torch.full((2, 3), math.nan, requires_grad=True)
    value = QuadraticWeightedKappaLoss(3)(probabilities, torch.tensor([0, 1]), weight=0)
    assert value == 0
    assert gradient(value, probabilities).tolist() == [[0] * 3] * 2
