"""Values at which a formula's parts overflow, vanish or cancel, although its result does not."""

import math

import pytest
import torch
from plain_pairs import MINERS, between
from torch import Tensor, nn

from lossframe import Loss, losses


def far_anchors() -> list[Tensor]:
    """Return anchors a million away from positives and negatives that differ by 1."""
    g = torch.Generator().manual_seed(0)
    return [offset + torch.randn(9, 2, generator=g) for offset in (1e6, 1e3, 1e3)]


@pytest.mark.parametrize("power", [1, 2])
def test_distances_to_a_far_anchor_differ_by_what_float64_says(power: int) -> None:
    rows = far_anchors()
    exact = [row.double().requires_grad_() for row in rows]
    leaves = [row.clone().requires_grad_() for row in rows]
    near, far = ((exact[0] - other).norm(dim=1).pow(power) for other in exact[1:])
    wanted = (near - far + 0.2).relu().mean()
    found = losses.TripletMarginLoss(distance="squared_euclidean" if power == 2 else "euclidean")(*leaves)
    torch.testing.assert_close(found, wanted.float(), rtol=1e-5, atol=0)
    for one, other in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(wanted, exact), strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-4, atol=1e-5 * other.abs().max().item())


@pytest.mark.parametrize(("miner", "formula"), MINERS, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("distance", ["squared_euclidean", "euclidean"])
@pytest.mark.parametrize("s", [1e3, 1e5])
def test_triplets_across_far_groups_of_a_small_batch_are_those_of_float64(
    miner: type[Loss], formula, distance: str, s: float
) -> None:
    x = torch.tensor([-s, -s + 0.125, -s + 0.5, s, s + 0.25, s + 0.75])[:, None]
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    exact, leaf = x.double().requires_grad_(), x.clone().requires_grad_()
    wanted = formula(between(exact, distance), y.tolist(), 0.2)
    found = miner(distance=distance)(leaf, y)  # type: ignore[call-arg]
    torch.testing.assert_close(found, wanted.float(), rtol=1e-5, atol=0)
    (of_found,), (of_wanted,) = torch.autograd.grad(found, leaf), torch.autograd.grad(wanted, exact)
    torch.testing.assert_close(of_found, of_wanted.float(), rtol=1e-4, atol=1e-5 * of_wanted.abs().max().item())


@pytest.mark.parametrize("payload", [0x7FC00000, 0x7FFFFFFF, 0x7F800001])
@pytest.mark.parametrize("n", [4, 100])
def test_nan_of_any_payload_makes_triplets_nan(payload: int, n: int) -> None:
    x = torch.randn(n, 1)
    x.view(torch.int32)[-1] = payload
    for labels in (torch.zeros(n), torch.arange(n) % 2):
        assert losses.BatchAllTripletLoss()(x, labels.long()).isnan() or not labels.any()


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_triplets_map_over_labels() -> None:
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 0, 1]])
    for miner in (losses.BatchAllTripletLoss, losses.BatchHardTripletLoss, losses.BatchSemiHardTripletLoss):
        criterion = miner(record=False)
        found = torch.vmap(lambda y: criterion.loss(x, y))(labels)  # noqa: B023
        torch.testing.assert_close(found, torch.stack([criterion.loss(x, y) for y in labels]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_component_infinitely_far_away_explains_no_pixel(dtype: torch.dtype) -> None:
    image = torch.tensor([-1.0, -0.25, 0.5, 1.0], dtype=dtype)[:, None, None, None]
    given = torch.tensor([0.3, -0.4, 0.2, torch.inf, -1.0, -2.0], dtype=dtype)  # logits, means, log-scales
    criterion = losses.DiscretizedLogisticMixtureLoss(2, reduction="none")
    one = losses.DiscretizedLogisticMixtureLoss(1, reduction="none")
    alone = one(torch.tensor([0.0, 0.2, -1.0], dtype=dtype)[:, None, None].expand(4, 3, 1, 1), image)
    share = torch.tensor([0.3, -0.4], dtype=dtype).log_softmax(0)[0]
    for sign in (1, -1):
        parameters = given.where(given.isfinite(), sign * given)[:, None, None].expand(4, 6, 1, 1)
        wanted = alone - share
        edge = 3 if sign == 1 else 0  # an open bin holds all that is beyond it
        inside = [k for k in range(4) if k != edge]
        torch.testing.assert_close(criterion(parameters, image)[inside], wanted[inside])
        assert criterion(parameters, image)[edge] < wanted[edge]


@pytest.mark.parametrize("mean", [1e30, torch.inf])
def test_a_pixel_that_no_component_explains_costs_infinity(mean: float) -> None:
    parameters = torch.tensor([0.0, mean, 7.0])[:, None, None].expand(1, 3, 1, 1)
    value = losses.DiscretizedLogisticMixtureLoss(1)(
        parameters * torch.tensor([1, 1, -1])[:, None, None], torch.zeros(1, 1, 1, 1)
    )
    assert value == pytest.approx(mean * math.exp(7), rel=1e-6)


def test_a_norm_of_factor_0_is_absent() -> None:
    model = nn.Linear(3, 2, bias=False)
    nn.init.constant_(model.weight, 1e30)
    for l1, l2, wanted, slope in ((0.1, 0.0, 6e29, 0.1), (0.0, 0.0, 0.0, 0.0), (0.0, 1e-30, 3e30, 1.0)):
        value = losses.L1L2Penalty(l1=l1, l2=l2)(model)
        (gradient,) = torch.autograd.grad(value, model.weight)
        assert value.item() == pytest.approx(wanted)
        torch.testing.assert_close(gradient, torch.full((2, 3), slope))


def test_an_infinite_distance_costs_what_its_target_says() -> None:
    distance, target = torch.tensor([torch.inf, torch.inf, -torch.inf, 0.5]), torch.tensor([0.0, 1.0, 1.0, 0.0])
    values = losses.PairContrastiveLoss(reduction="none")(distance, target)
    assert values.tolist() == [0, torch.inf, torch.inf, 0.125]
    assert losses.PairContrastiveLoss()(torch.tensor(float("nan")).reshape(1), torch.zeros(1)).isnan()


def test_a_score_beside_an_infinite_one_has_no_probability() -> None:
    criterion = losses.CategoricalCrossEntropyLoss(normalize=True)
    value = criterion(torch.tensor([[0.1, torch.inf, 0.7]]), torch.tensor([0]))
    assert value.item() == pytest.approx(-math.log(1e-7))


def test_a_certain_prediction_of_a_soft_target_has_the_kappa_gradient_of_float64() -> None:
    p = torch.eye(4)[[0, 1, 1, 3, 2]]
    target = torch.rand(5, 4, generator=torch.Generator().manual_seed(0)).softmax(1)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        leaf = p.to(dtype).requires_grad_()
        value = losses.ClippedKappaLogLoss(4)(leaf, target.to(dtype))
        gradients.append(torch.autograd.grad(value, leaf)[0])
    torch.testing.assert_close(gradients[0], gradients[1].float(), rtol=1e-5, atol=1e-7)


def test_a_slope_by_a_target_of_a_certain_logit_is_0() -> None:
    logits, target = torch.tensor([-3e29, 3e29]), torch.tensor([0.0, 1.0], requires_grad=True)
    value = losses.BinaryFocalLoss(gamma=1.0)(logits, target)
    assert torch.autograd.grad(value, target)[0].tolist() == [0, 0]


def test_equal_infinite_scores_are_tied() -> None:
    scores = torch.tensor([torch.inf, torch.inf, -torch.inf, -torch.inf])
    values = losses.ROCAUCLoss(margin=0.5, power=1, reduction="none")(scores, torch.tensor([1, 0, 1, 0]))
    assert values.tolist() == [0.5, 0, torch.inf, 0]
