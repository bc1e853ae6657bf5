"""Formulae at the ends of float32: values and gradients equal float64 of the same inputs, and stay in their ranges."""

import math

import pytest
import torch
from torch import Tensor, nn

from lossframe import InputError, Loss, losses

SCALES = [1e-30, 1e-10, 1.0, 1e10, 1e30]
FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_like_float64(found: Tensor, x: Tensor, wanted: Tensor, wide: Tensor, rtol: float = 1e-5) -> None:
    """Compare value and gradient where float32 can hold them: what is below its smallest number may be 0."""
    gradient, of_wide = torch.autograd.grad(found.sum(), x)[0], torch.autograd.grad(wanted.sum(), wide)[0]
    for ours, theirs in ((found, wanted), (gradient, of_wide)):
        torch.testing.assert_close(ours.double(), theirs.to(ours.dtype).double(), rtol=rtol, atol=1e-36)


def covariance(rows: Tensor) -> Tensor:
    rows = rows - rows.mean(0)
    return (rows.T @ rows / len(rows)).triu(1).square().sum()


def test_decov_of_a_large_and_a_small_feature_counts_both() -> None:
    features = torch.tensor([[0.0, 0, 0], [1e4, 1, 0]], requires_grad=True)
    value = losses.DeCovLoss()(features)
    assert value.item() == pytest.approx(6.25e6)
    assert torch.autograd.grad(value, features)[0][0, 0].item() == pytest.approx(-1250)


@pytest.mark.parametrize("shape", [(2, 3), (3, 70), (64, 65), (70, 200), (100, 20), (130, 300)])
@pytest.mark.parametrize("offset", [0.0, 1e9])
@pytest.mark.parametrize("spread", [0, 8])
def test_decov_equals_the_whole_covariance_in_float64(shape: tuple[int, int], offset: float, spread: int) -> None:
    scales = 10 ** torch.linspace(-spread, spread, shape[1], dtype=torch.float64)
    features = (normal(*shape) * scales + offset).float().requires_grad_()
    wide = features.detach().double().requires_grad_()
    found, wanted = losses.DeCovLoss()(features), covariance(wide)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-36)
    gradient, of_wide = torch.autograd.grad(found, features)[0], torch.autograd.grad(wanted, wide)[0]
    worst = (gradient - of_wide).abs().amax(0) - 1e-5 * of_wide.abs().amax(0)  # of each feature on its own
    assert (worst <= 1e-36).all()


@pytest.mark.parametrize("shape", [(1, 5), (2, 3), (4, 200), (256, 300)])
@pytest.mark.parametrize("scale", SCALES)
def test_decov_is_never_negative(shape: tuple[int, int], scale: float) -> None:
    for seed in range(3):
        alone = torch.zeros(shape, dtype=torch.float64)
        alone[:, 0] = scale * normal(shape[0], seed=seed)  # the rest covaries with nothing
        assert losses.DeCovLoss()(alone.float()) >= 0
        assert losses.DeCovLoss()((scale * normal(*shape, seed=seed)).float()) >= 0


def test_decov_of_no_features_is_0() -> None:
    features = torch.zeros(3, 0, requires_grad=True)
    assert losses.DeCovLoss()(features) == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_penalty_of_a_half_model_is_evaluated_in_float32(dtype: torch.dtype) -> None:
    model = nn.Linear(50, 50, bias=False).to(dtype)
    nn.init.constant_(model.weight, 500.0)
    value = losses.L1L2Penalty(l2=2e-3)(model)
    assert (value.item(), value.dtype) == (625000.0, torch.float32)
    value.backward()
    assert model.weight.grad.dtype == dtype
    assert (model.weight.grad == 1).all()


@pytest.mark.parametrize("scale", [0.005, 0.5, 2.0])
def test_rows_that_do_not_sum_to_1_are_refused(scale: float) -> None:
    probabilities, target = torch.full((2, 4, 3), scale / 4), torch.zeros(2, 3, dtype=torch.long)
    with pytest.raises(InputError, match=r"sum to 1.*normalize=True.*CrossEntropyLoss"):
        losses.CategoricalCrossEntropyLoss()(probabilities, target)
    losses.CategoricalCrossEntropyLoss(normalize=True)(probabilities, target)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_softmax_of_half_precision_sums_to_1(dtype: torch.dtype) -> None:
    for classes in (2, 10, 1000, 30000):
        probabilities = (3 * normal(4, classes)).softmax(1).to(dtype)
        assert losses.CategoricalCrossEntropyLoss()(probabilities, torch.arange(4) % 2).isfinite()


def test_several_labels_need_no_probabilities_that_sum_to_1() -> None:
    probabilities, target = torch.tensor([[0.9, 0.8, 0.1], [0.5, 0.5, 0.1]]), torch.tensor([[1.0, 1, 0], [0, 1, 0]])
    wanted = -(math.log(0.9) + math.log(0.8) + math.log(0.5)) / 2
    assert losses.CategoricalCrossEntropyLoss()(probabilities, target).item() == pytest.approx(wanted)


@pytest.mark.parametrize("scale", [1e-37, *SCALES, 2e38])
def test_normalized_scores_of_any_scale_have_the_same_loss(scale: float) -> None:
    scores = (torch.tensor([[1.0, 1.0, 0.5]]) * scale).requires_grad_()
    value = losses.CategoricalCrossEntropyLoss(normalize=True)(scores, torch.tensor([0]))
    assert value.item() == pytest.approx(math.log(2.5))
    gradient = torch.autograd.grad(value, scores)[0] * scale
    assert gradient.tolist()[0] == pytest.approx([-0.6, 0.4, 0.4], rel=1e-4)


def test_certain_and_right_is_the_lowest_cross_entropy_in_any_precision() -> None:
    for dtype in FLOATS:
        value = losses.CategoricalCrossEntropyLoss()(torch.eye(2, dtype=dtype), torch.tensor([0, 1]))
        assert value.item() == pytest.approx(1e-7, rel=1e-5)


@pytest.mark.parametrize("dtype", FLOATS)
def test_log_loss_of_a_perfect_prediction_is_0(dtype: torch.dtype) -> None:
    probabilities = torch.tensor([0.0, 1.0], dtype=dtype, requires_grad=True)
    value = losses.LogLoss(reduction="sum")(probabilities, torch.tensor([0, 1]))
    assert value == 0
    assert torch.autograd.grad(value, probabilities)[0].tolist() == pytest.approx([1, -1], rel=1e-6)


@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
def test_log_loss_equals_float64_next_to_0_and_1(target: float) -> None:
    small = 10 ** torch.linspace(-30, -0.4, 100, dtype=torch.float64)
    p = torch.cat([small, 1 - small]).float().requires_grad_()
    wide, y = p.detach().double().requires_grad_(), torch.full((200,), target)
    wanted = -y.double() * (wide + 1e-7).log() - (1 - y.double()) * (1 - wide + 1e-7).log()
    found = losses.LogLoss(reduction="none")(p, y)
    inside = wanted > 0
    assert (found[~inside] == 0).all()
    assert_like_float64(torch.where(inside, found, 0), p, torch.where(inside, wanted, 0), wide)


def test_variance_below_eps_gets_the_gradient_of_eps() -> None:
    prediction, target, variance = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 0.0]), torch.tensor([1e-9, 4.0])
    ours, theirs = variance.clone().requires_grad_(), variance.clone().requires_grad_()
    value = losses.GaussianNLLLoss(reduction="none")(prediction, target, ours)
    wanted = nn.functional.gaussian_nll_loss(prediction, target, theirs, reduction="none")
    torch.testing.assert_close(value, wanted)
    gradients = [torch.autograd.grad(loss.sum(), leaf)[0] for loss, leaf in ((value, ours), (wanted, theirs))]
    torch.testing.assert_close(*gradients)
    assert gradients[0][0] < -1e11


@pytest.mark.parametrize("scale", SCALES)
def test_gaussian_likelihood_of_any_scale_equals_float64(scale: float) -> None:
    p, t, v = normal(50) * scale, normal(50, seed=1) * scale, normal(50, seed=2).square() * scale
    narrow = [x.float() for x in (p, t, v)]
    x, wide = narrow[0].requires_grad_(), narrow[0].detach().double().requires_grad_()
    variance = narrow[2].double().clamp_min(1e-6)
    wanted = (variance.log() + (wide - narrow[1].double()).square() / variance) / 2
    assert_like_float64(losses.GaussianNLLLoss(reduction="none")(*narrow), x, wanted, wide)


def pairwise(d: Tensor) -> Tensor:
    return (d[:, :, None] - d[:, None]).square().sum((1, 2)) / (d.shape[1] * (d.shape[1] - 1))


REGRESSION = [
    (losses.L1Loss, {}, lambda d: d.abs()),
    (losses.MSELoss, {}, lambda d: d.square()),
    (losses.HuberLoss, {"delta": 0.5}, lambda d: torch.where(d.abs() < 0.5, d.square() / 2, (d.abs() - 0.25) / 2)),
    (losses.HuberLoss, {"delta": 1e-20}, lambda d: 1e-20 * (d.abs() - 0.5e-20).clamp_min(0)),
    (losses.QuantileLoss, {"quantile": 0.9}, lambda d: 0.9 * (-d).relu() + 0.1 * d.relu()),
    (losses.MeanPairwiseSquaredErrorLoss, {}, pairwise),
]


@pytest.mark.parametrize(("loss_class", "options", "formula"), REGRESSION)
@pytest.mark.parametrize(("scale", "offset"), [(1, 1e9), (1e3, 1e9), (1, 0), (1e-12, 0), (1e10, 0), (1e18, 0)])
def test_regression_equals_float64(loss_class: type[Loss], options: dict, formula, scale: float, offset: float) -> None:
    x = (normal(6, 4) * scale + offset).float().requires_grad_()
    target = (normal(6, 4, seed=1) * scale + offset).float()
    wide = x.detach().double().requires_grad_()
    assert_like_float64(loss_class(**options, reduction="none")(x, target), x, formula(wide - target.double()), wide)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize(("loss_class", "options", "formula"), REGRESSION)
def test_regression_at_the_ends_of_the_range_is_what_float64_rounds_to(
    loss_class: type[Loss], options: dict, formula, scale: float
) -> None:
    x, target = ((normal(6, 4, seed=s) * scale).float() for s in (0, 1))
    found = loss_class(**options, reduction="none").loss(x, target)
    wanted = formula(x.double() - target.double()).float()
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-36)


def test_small_differences_next_to_a_large_common_error_count() -> None:
    prediction, target = torch.full((1, 3), 1e9), torch.tensor([[1e-3, 2e-3, 4e-3]])
    found = losses.MeanPairwiseSquaredErrorLoss()(prediction, target)
    assert found.item() == pytest.approx((1e-6 + 4e-6 + 9e-6) / 3, rel=1e-3)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    "loss_class", [losses.QuadraticWeightedKappaLoss, losses.KappaLogLoss, losses.ClippedKappaLogLoss]
)
def test_kappa_of_any_scale_equals_float64(loss_class: type[Loss], scale: float, power: float) -> None:
    p = (normal(20, 4).abs() * scale).float().requires_grad_()
    wide, target = p.detach().double().requires_grad_(), torch.arange(20) % 4
    criterion = loss_class(4, power=power)
    found, wanted = criterion(p, target), criterion(wide, target)
    assert_like_float64(found, p, wanted, wide)
    given = wide.detach().clamp_min(1e-15 if power < 1 else 0).pow(power)
    given = given / (given.sum(1, keepdim=True) + 1e-15)
    penalties = (torch.arange(4.0)[:, None] - torch.arange(4)).square().double() / 9
    chance = (given.sum(0) @ penalties).sum() / 4
    kappa = losses.QuadraticWeightedKappaLoss(4, power=power)(p, target).item()
    assert kappa == pytest.approx(((given @ penalties)[torch.arange(20), target].sum() / chance).item() - 1, rel=1e-6)
    assert kappa >= -1


def test_infinite_probabilities_are_refused() -> None:
    with pytest.raises(InputError, match="probabilities within"):
        losses.QuadraticWeightedKappaLoss(2)(torch.tensor([[torch.inf, 1.0]]), torch.tensor([0]))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("soft", [False, True])
def test_dice_stays_within_0_and_1(scale: float, soft: bool) -> None:
    for seed in range(20):
        logits = (normal(2, 3, 50, seed=seed) * scale).float()
        target = logits.softmax(1) if soft else logits.argmax(1)
        value = losses.DiceLoss(smooth=1e-6, reduction="none")(logits, target)
        assert ((value >= 0) & (value <= 1)).all()


def test_dice_of_classes_at_minus_infinity_has_a_finite_gradient() -> None:
    logits = torch.tensor([[[-torch.inf, 0.0], [0.0, 0.0], [1.0, -torch.inf]]], requires_grad=True)
    value = losses.DiceLoss()(logits, torch.tensor([[1, 0]]))
    assert value.isfinite()
    assert torch.autograd.grad(value, logits)[0].isfinite().all()
