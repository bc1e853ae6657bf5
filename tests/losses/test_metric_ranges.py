"""Metric learning row by row: ranges, scales from 1e-40 to 1e38, zero vectors, labels of any dtype, odd shapes."""

import math
from itertools import product
from typing import Any

import pytest
import torch
from plain_pairs import double, evaluate, every_distance, softmax_contrast
from torch import Tensor

from lossframe import InputError, Loss, losses
from lossframe.losses.algorithms.rows import Distance, length, normalize, rowwise


@every_distance
def test_triplets_of_rows_with_squares_out_of_range_equal_float64(distance: Distance) -> None:
    for scale in (1e-40, 1e-30, 1e-22, 1.0, 1e20, 1e30):
        a, p, n = (torch.tensor([row]) * scale for row in ([0.3, 0.4], [0.3, 0.5], [2.0, 0.3]))
        exact = [double(row) for row in (a, p, n)]
        wanted = (rowwise(exact[0], exact[1], distance) - rowwise(exact[0], exact[2], distance) + 0.2).relu()
        leaves = [row.clone().requires_grad_() for row in (a, p, n)]
        found = losses.TripletMarginLoss(distance=distance)(*leaves)
        assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
        of_wanted = torch.autograd.grad(wanted.sum(), exact)
        for one, other in zip(torch.autograd.grad(found, leaves), of_wanted, strict=True):
            torch.testing.assert_close(one, other.float(), rtol=1e-4, atol=1e-5 * other.abs().max().float().item())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lengths_and_directions_are_right_at_any_scale(dtype: torch.dtype) -> None:
    largest, least = (5e37, 1e-44) if dtype == torch.float32 else (1e307, 5e-323)
    for scale in (largest, 1e25, 1e-30, least):
        x = torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, 0.0]], dtype=dtype) * scale
        unit = normalize(x)
        torch.testing.assert_close(unit[1:], unit.new_tensor([[0, 1], [0, 0]]))
        torch.testing.assert_close(unit[0].square().sum(), unit.new_tensor(1.0))
        torch.testing.assert_close(
            length(x)[0] / scale, x.new_tensor(5.0), rtol=0.2 if scale == least else 1e-6, atol=0
        )
    x = torch.zeros(2, 3, dtype=dtype, requires_grad=True)
    assert torch.autograd.grad((normalize(x) + length(x)[:, None]).sum(), x)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1.0, 1e20, 1e30])
def test_cosine_distances_keep_their_range_and_digits(dtype: torch.dtype, scale: float) -> None:
    g = torch.Generator().manual_seed(3)
    x = torch.randn(200, 7, generator=g, dtype=torch.float64)
    apart = torch.logspace(-6, 0, 200, dtype=torch.float64)[:, None]
    y = torch.cat([x[:50], 2 * x[50:150] + apart[50:150] * torch.randn(100, 7, generator=g), -3 * x[150:]])
    x, y = (scale * x).to(dtype), (scale * y).to(dtype)
    criterion = losses.CosineDistanceLoss(normalize=True, reduction="none")
    leaf, exact = x.clone().requires_grad_(), double(x)
    found = criterion(leaf, y)
    assert ((found >= 0) & (found <= 2)).all()
    assert (found[:50] == 0).all()
    u, v = (t / t.norm(dim=1, keepdim=True) for t in (exact, y.double()))
    wanted = torch.where(((u * v).sum(1) > 0), (u - v).square().sum(1) / 2, 2 - (u + v).square().sum(1) / 2)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5 if dtype == torch.float32 else 1e-9, atol=1e-30)
    of_found, of_wanted = (torch.autograd.grad(d.sum(), t)[0] for d, t in ((found, leaf), (wanted, exact)))
    limit = of_wanted.abs().max().item()
    torch.testing.assert_close(of_found.double(), of_wanted, rtol=1e-4, atol=1e-7 * limit)


def test_zero_vector_has_cosine_distance_1() -> None:
    x = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1e20, 0.0]])
    y = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1e20, 0.0]])
    for dtype in (torch.float32, torch.float64):
        criterion = losses.CosineDistanceLoss(normalize=True, reduction="none")
        assert criterion(x.to(dtype), y.to(dtype)).tolist() == [1, 1, 0]
        labels = torch.tensor([0, 0, 1])
        value, gradient = evaluate(losses.BatchAllTripletLoss(1.0, "cosine"), x.to(dtype), labels)
        assert value == 1
        assert gradient.isfinite().all()


def test_one_minus_a_product_near_1_keeps_its_digits() -> None:
    x = normalize(torch.randn(50, 40, generator=torch.Generator().manual_seed(4)))
    wanted = 1 - (x.double() * x).sum(1)
    torch.testing.assert_close(losses.CosineDistanceLoss(reduction="none")(x, x), wanted.float(), rtol=1e-6, atol=1e-14)
    large = torch.tensor([[1e20, 1e20]])
    assert losses.CosineDistanceLoss()(large, large * torch.tensor([1, -1])) == 1


def test_contrast_of_easy_views_keeps_its_digits() -> None:
    x = torch.eye(2)
    wanted = softmax_contrast(torch.eye(2).repeat(2, 1).double(), [0, 1, 0, 1], 0.1, True)
    assert losses.NTXentLoss(0.1)(x, views=x).item() == pytest.approx(wanted.item(), rel=1e-5)
    assert losses.NTXentLoss(0.02)(x, views=x).item() == pytest.approx(2 * math.exp(-50), rel=1e-5)


@pytest.mark.parametrize("n", [4, 6, 30])
def test_pull_away_of_orthogonal_and_equal_rows_is_exact(n: int) -> None:
    x = torch.eye(n, 6)[torch.arange(n) % 6] * torch.linspace(-3, 5, n)[:, None]
    values = losses.PullAwayLoss(reduction="none")(x)
    assert values.tolist() == [float((torch.arange(n) % 6 == k % 6).sum() - 1) for k in range(n)]
    turned = x @ torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(n)))[0]
    of_turned = losses.PullAwayLoss(reduction="none")(turned)
    assert (of_turned >= 0).all()
    torch.testing.assert_close(of_turned, values, rtol=1e-5, atol=1e-12)
    same = torch.randn(1, 5).expand(n, 5) * torch.tensor([-1.0, 1.0]).repeat(n)[:n, None]
    assert losses.PullAwayLoss()(same) <= 1
    assert losses.PullAwayLoss(squared=False)(same.abs()) <= 1


def test_pairs_at_a_huge_distance_follow_their_target() -> None:
    distance = torch.tensor([1e20, 1e20, 1e20, -1e20, -1e20], requires_grad=True)
    target = torch.tensor([0.0, 1.0, 1e-10, 1.0, 0.0])
    values = losses.PairContrastiveLoss(reduction="none")(distance, target)
    torch.testing.assert_close(values, torch.tensor([0, torch.inf, 5e29, torch.inf, torch.inf]))
    (gradient,) = torch.autograd.grad(values.sum(), distance)
    torch.testing.assert_close(gradient, torch.tensor([0, 1e20, 1e10, -1e20, -1e20]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.bool])
def test_centers_of_labels_of_any_dtype_equal_int64(dtype: torch.dtype) -> None:
    x, y = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([0, 1])
    criterion, other = losses.CenterLoss(2, 2), losses.CenterLoss(2, 2)
    assert criterion(x, y.to(dtype)) == other(x, y) == 7.25
    assert torch.equal(criterion.centers, other.centers)


def test_centers_made_under_bfloat16_are_float32() -> None:
    torch.set_default_dtype(torch.bfloat16)
    try:
        criterion = losses.CenterLoss(2, 2)
    finally:
        torch.set_default_dtype(torch.float32)
    assert criterion.centers.dtype == torch.float32


FEATURES = {"embeddings": (2, 2), "anchor": (2, 2), "prediction": (2, 9), "features": (2, 2), "distance": (0, 9)}
"""How many dims the first input may have."""
ODD: dict[type[Loss], float] = {
    losses.BatchAllTripletLoss: 0,
    losses.BatchHardTripletLoss: 0,
    losses.BatchSemiHardTripletLoss: 0,
    losses.ContrastiveLoss: 0,
    losses.NTXentLoss: math.log(2),
    losses.SupConLoss: math.log(2),
    losses.PullAwayLoss: 0,
    losses.TripletMarginLoss: 0.2,
    losses.CosineDistanceLoss: 1,
    losses.CenterLoss: 0,
    losses.PairContrastiveLoss: 0,
}
"""What three zero vectors of one class cost, also those without entries."""


SHAPES = [(), (0,), (3,), (3, 0), (0, 4), (0, 0), (3, 4, 1), (3, 4)]


def fits(loss_class: type[Loss], shape: tuple[int, ...]) -> bool:
    """Return whether a loss takes inputs of this shape."""
    least, most = FEATURES[loss_class.reads[0]]
    return least <= len(shape) <= most and (loss_class is not losses.CenterLoss or shape[1] == 4)


def of_shape(loss_class: type[Loss], shape: tuple[int, ...]) -> tuple[Loss, Tensor, dict[str, Tensor]]:
    """Return a loss, the zeros that it reads, and all its inputs."""
    x, y = torch.zeros(shape, requires_grad=True), torch.zeros(shape[:1], dtype=torch.long)
    criterion = losses.CenterLoss(2, 4) if loss_class is losses.CenterLoss else loss_class()
    needed = [name for name in criterion.reads if name not in criterion.optional or name == "labels"]
    inputs = {name: y if name == "labels" else x for name in needed}
    if loss_class is losses.PairContrastiveLoss:
        inputs["target"] = torch.ones(shape)
    return criterion, x, inputs


def cases(fitting: bool) -> list[Any]:
    return [
        pytest.param(loss_class, shape, id=f"{loss_class.__name__}-{shape}")
        for loss_class, shape in product(ODD, SHAPES)
        if fits(loss_class, shape) == fitting
    ]


@pytest.mark.parametrize(("loss_class", "shape"), cases(fitting=False))
def test_shape_that_does_not_fit_is_an_input_error(loss_class: type[Loss], shape: tuple[int, ...]) -> None:
    criterion, _, inputs = of_shape(loss_class, shape)
    with pytest.raises(InputError, match=f"^{loss_class.__name__}: wanted"):
        criterion(**inputs)


@pytest.mark.parametrize(("loss_class", "shape"), cases(fitting=True))
def test_odd_shape_that_fits_has_the_right_value(loss_class: type[Loss], shape: tuple[int, ...]) -> None:
    criterion, x, inputs = of_shape(loss_class, shape)
    value = criterion(**inputs)
    (gradient,) = torch.autograd.grad(value, x)
    values = math.prod(shape[:-1]) if loss_class is losses.CosineDistanceLoss else math.prod(shape[:1])
    assert value.item() == pytest.approx(ODD[loss_class] if values else 0)
    assert gradient.shape == shape
    assert gradient.isfinite().all()
