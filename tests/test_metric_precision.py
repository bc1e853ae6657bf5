"""Metric learning in float32 against plain loops in float64: far groups, offsets, and scales from 1e-30 to 1e30."""

import math

import pytest
import torch
from test_metric_learning import (
    MINERS,
    all_triplets,
    between,
    contrast,
    mean,
    pairs,
    softmax_contrast,
)
from torch import Tensor

from lossframe import InputError, Loss, losses
from lossframe.functional import blocks
from lossframe.functional.distances import prepared
from lossframe.functional.rows import Distance, length, normalize, rowwise

DISTANCES: list[Distance] = ["squared_euclidean", "euclidean", "cosine"]
FORMULAE = dict(MINERS)
every_distance = pytest.mark.parametrize("distance", DISTANCES)
every_miner = pytest.mark.parametrize("miner", FORMULAE, ids=lambda miner: miner.__name__)


@pytest.fixture(params=["one block", "many blocks"])
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "many blocks":
        monkeypatch.setattr(blocks, "_BLOCK", 2 * 6 * 8)
        monkeypatch.setattr(blocks, "_SHARE", 1)


def groups(s: float, features: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return two tight groups at -s and s, in float32, whose classes do not mix."""
    x = torch.tensor([-s, -s + 0.1, -s + 0.4, s, s + 0.1, s + 0.4])[:, None]
    y = torch.tensor([0, 0, 1, 2, 2, 3])
    if features == 1:
        return x, y
    g = torch.Generator().manual_seed(seed)
    return x + 0.3 * torch.randn(6, features, generator=g), y


def evaluate(criterion: Loss, x: Tensor, *labels: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    value = criterion(x, *labels)
    return value.detach(), torch.autograd.grad(value, x)[0]


def assert_right(
    criterion: Loss, wanted: Tensor, exact: Tensor, x: Tensor, *labels: Tensor, rtol: float = 1e-5
) -> None:
    """Compare a value, and its gradient relative to its largest entry."""
    value, gradient = evaluate(criterion, x, *labels)
    assert value.dtype == x.dtype
    torch.testing.assert_close(value, wanted.detach().to(x.dtype), rtol=rtol, atol=0)
    (of_wanted,) = torch.autograd.grad(wanted, exact, retain_graph=True)
    limit = of_wanted.abs().max().item()
    torch.testing.assert_close(gradient.double(), of_wanted, rtol=rtol, atol=rtol * limit)


def double(x: Tensor) -> Tensor:
    return x.double().requires_grad_()


def distances(exact: Tensor, distance: str) -> Tensor:
    """Return the plain formula's distances; a cosine distance without its cancellation."""
    if distance != "cosine":
        return between(exact, distance)
    unit = exact / exact.norm(dim=1, keepdim=True)
    return (unit[:, None] - unit).square().sum(-1) / 2


@pytest.mark.parametrize(("s", "wanted"), [(1.0, 0.085), (1e3, 0.085)])
def test_far_groups_do_not_change_the_triplets_within_each(s: float, wanted: float) -> None:
    x, y = groups(s)
    assert losses.BatchAllTripletLoss()(x, y).item() == pytest.approx(wanted, rel=2e-3)  # the inputs are rounded
    exact = all_triplets(between(x.double(), "squared_euclidean"), y.tolist(), 0.2)
    assert losses.BatchAllTripletLoss()(x, y).item() == pytest.approx(exact.item(), rel=1e-5)


@pytest.mark.usefixtures("_blocks")
@every_miner
@every_distance
@pytest.mark.parametrize("s", [1e3, 1e6])
@pytest.mark.parametrize("features", [1, 128])
def test_triplets_of_far_groups_are_those_of_float64(
    miner: type[Loss], distance: Distance, s: float, features: int
) -> None:
    x, y = groups(s, features)
    if distance == "cosine" and features == 1:
        return  # all cosines are 1 or -1
    exact = double(x)
    margin = {"squared_euclidean": 0.5 * features, "euclidean": 0.5 * features**0.5, "cosine": 0.2}[distance]
    wanted = FORMULAE[miner](distances(exact, distance), y.tolist(), margin)
    assert_right(miner(margin=margin, distance=distance), wanted, exact, x, y)  # type: ignore[call-arg]


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("s", [1e2, 1e4, 1e6])
def test_contrast_of_far_groups_is_that_of_float64(s: float) -> None:
    x, y = groups(s, 8)
    exact = double(x)
    assert_right(losses.ContrastiveLoss(2.0), contrast(between(exact, "euclidean"), y.tolist(), 2.0), exact, x, y)
    for criterion, over_pairs in ((losses.NTXentLoss(0.5), True), (losses.SupConLoss(0.5), False)):
        assert_right(criterion, softmax_contrast(exact, y.tolist(), 0.5, over_pairs), exact, x, y)


def clusters(n: int, features: int, spread: float, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Return four tight clusters, far apart and far from the origin; their classes mix."""
    g = torch.Generator().manual_seed(1)
    centers = 10 + 10 * torch.randn(4, features, generator=g, dtype=torch.float64)
    x = centers.repeat_interleave(n // 4, 0) + spread * torch.randn(n, features, generator=g, dtype=torch.float64)
    return x.to(dtype), torch.randint(0, 5, (n,), generator=g)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-5])
def test_pairwise_distances_of_clusters_are_exact(spread: float, dtype: torch.dtype) -> None:
    """Few pairs are near with 40 rows, many with 400."""
    for n in (40, 400):
        x, _ = clusters(n, 16, spread, dtype)
        for distance in ("squared_euclidean", "euclidean"):
            rows, pairwise = prepared(x, distance)
            wanted = between(x.double(), distance)
            rtol = 1e-5 if dtype == torch.float32 else 1e-11
            torch.testing.assert_close(pairwise(rows, rows).double(), wanted, rtol=rtol, atol=0)
            part = slice(7, 30)
            torch.testing.assert_close(pairwise(rows[part], rows, part).double(), wanted[part], rtol=rtol, atol=0)


@pytest.mark.parametrize("n", [40, 400])
@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("distance", ["squared_euclidean", "euclidean"])
def test_gradients_within_clusters_are_exact(distance: Distance, spread: float, n: int) -> None:
    x, y = clusters(n, 16, spread)
    exact, leaf = double(x), x.clone().requires_grad_()
    weight = (y[:, None] == y) * (between(x.double(), "euclidean") < 9)  # within a cluster
    rows, pairwise = prepared(leaf, distance)
    found, wanted = ((d * weight).sum() for d in (pairwise(rows, rows), between(exact, distance)))
    (of_found,), (of_wanted,) = torch.autograd.grad(found, leaf), torch.autograd.grad(wanted, exact)
    torch.testing.assert_close(of_found.double(), of_wanted, rtol=1e-4, atol=1e-5 * of_wanted.abs().max().item())


def sample(n: int = 10, features: int = 6) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(2)
    return torch.randn(n, features, generator=g, dtype=torch.float64), torch.arange(n) % 3


SCALES = [1e-30, 1e-18, 1.0, 1e12, 1e18, 1e30]


@every_miner
@every_distance
@pytest.mark.parametrize("scale", SCALES)
def test_triplets_at_any_scale_are_those_of_float64(miner: type[Loss], distance: Distance, scale: float) -> None:
    x, y = sample()
    x = (scale * x).float()
    exact, margin = double(x), 0.2 if distance == "cosine" else min(scale, 1e15)
    wanted = FORMULAE[miner](distances(exact, distance), y.tolist(), margin)
    assert_right(miner(margin=margin, distance=distance), wanted, exact, x, y)  # type: ignore[call-arg]


@pytest.mark.parametrize("scale", SCALES)
def test_contrast_and_directions_at_any_scale_are_those_of_float64(scale: float) -> None:
    x, y = sample()
    x = (scale * x).float()
    exact = double(x)
    if 1e-15 < scale < 1e19:  # squares are float32 numbers
        assert_right(
            losses.ContrastiveLoss(scale), contrast(between(exact, "euclidean"), y.tolist(), scale), exact, x, y
        )
    for criterion, over_pairs in ((losses.NTXentLoss(), True), (losses.SupConLoss(), False)):
        assert_right(criterion, softmax_contrast(exact, y.tolist(), 0.1, over_pairs), exact, x, y)
    cosines = 1 - between(exact, "cosine")
    for squared in (True, False):
        wanted = mean([cosines[i, j] ** (2 if squared else 1) for i, j in pairs([0] * len(x), True)])
        assert_right(losses.PullAwayLoss(squared), wanted, exact, x)


@pytest.mark.parametrize("offset", [1e2, 1e4, 1e6, 1e9])
def test_an_offset_of_all_rows_costs_no_digits(offset: float) -> None:
    x, y = sample()
    x = (offset + max(1, offset / 1e6) * x).float()
    exact = double(x)
    for distance in DISTANCES:
        assert_right(
            losses.BatchAllTripletLoss(distance=distance),
            all_triplets(distances(exact, distance), y.tolist(), 0.2), exact, x, y,
        )  # fmt: skip
    for criterion, over_pairs in ((losses.NTXentLoss(), True), (losses.SupConLoss(), False)):
        assert_right(criterion, softmax_contrast(exact, y.tolist(), 0.1, over_pairs), exact, x, y)


def test_a_point_far_away_costs_nothing() -> None:
    x = torch.tensor([[0.0], [0.5], [1e20], [1e20]])
    value, gradient = evaluate(losses.BatchHardTripletLoss(distance="euclidean"), x, torch.tensor([0, 0, 1, 1]))
    assert (value, gradient.any()) == (0, False)
    value, gradient = evaluate(losses.BatchAllTripletLoss(), x, torch.tensor([0, 0, 1, 1]))
    assert (value, gradient.any()) == (0, False)


def test_a_value_beyond_float32_is_infinite_and_its_gradient_is_not() -> None:
    x = torch.tensor([[0.0], [1e20]])
    for criterion in (losses.BatchAllTripletLoss(), losses.ContrastiveLoss()):
        value, gradient = evaluate(criterion, torch.cat([x, x]), torch.tensor([0, 0, 1, 1]))
        assert value == torch.inf
        assert gradient.isfinite().all()
        assert gradient.any()


@every_distance
def test_rows_beyond_the_range_of_squares_have_the_triplets_of_float64(distance: Distance) -> None:
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
def test_lengths_and_directions_have_no_scale(dtype: torch.dtype) -> None:
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


def test_a_zero_vector_has_cosine_distance_1() -> None:
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


def test_the_contrast_of_easy_views_keeps_its_digits() -> None:
    x = torch.eye(2)
    wanted = softmax_contrast(torch.eye(2).repeat(2, 1).double(), [0, 1, 0, 1], 0.1, True)
    assert losses.NTXentLoss(0.1)(x, views=x).item() == pytest.approx(wanted.item(), rel=1e-5)
    assert losses.NTXentLoss(0.02)(x, views=x).item() == pytest.approx(2 * math.exp(-50), rel=1e-5)


@pytest.mark.parametrize("n", [4, 6, 30])
def test_pull_away_of_orthogonal_and_equal_rows_is_exact(n: int) -> None:
    x = torch.eye(n, 6)[torch.arange(n) % 6] * torch.linspace(-3, 5, n)[:, None]
    values = losses.PullAwayLoss(reduction="none")(x)
    assert values.tolist() == [float((torch.arange(n) % 6 == k % 6).sum() - 1) for k in range(n)]
    same = torch.randn(1, 5).expand(n, 5) * torch.tensor([-1.0, 1.0]).repeat(n)[:n, None]
    assert losses.PullAwayLoss()(same) <= 1
    assert losses.PullAwayLoss(squared=False)(same.abs()) <= 1


def test_pairs_at_a_huge_distance_cost_what_their_target_says() -> None:
    distance = torch.tensor([1e20, 1e20, 1e20, -1e20, -1e20], requires_grad=True)
    target = torch.tensor([0.0, 1.0, 1e-10, 1.0, 0.0])
    values = losses.PairContrastiveLoss(reduction="none")(distance, target)
    torch.testing.assert_close(values, torch.tensor([0, torch.inf, 5e29, torch.inf, torch.inf]))
    (gradient,) = torch.autograd.grad(values.sum(), distance)
    torch.testing.assert_close(gradient, torch.tensor([0, 1e20, 1e10, -1e20, -1e20]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.bool])
def test_centers_are_indexed_by_labels_of_any_dtype(dtype: torch.dtype) -> None:
    x, y = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([0, 1])
    criterion, other = losses.CenterLoss(2, 2), losses.CenterLoss(2, 2)
    assert criterion.loss(x, y.to(dtype)).tolist() == [12.5, 2.0]
    criterion.update(x, y.to(dtype))
    other.update(x, y)
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


@pytest.mark.parametrize("shape", [(), (0,), (3,), (3, 0), (0, 4), (0, 0), (3, 4, 1), (3, 4)])
@pytest.mark.parametrize("loss_class", ODD, ids=lambda loss_class: loss_class.__name__)
def test_an_odd_shape_is_an_error_or_the_right_value(loss_class: type[Loss], shape: tuple[int, ...]) -> None:
    x, y = torch.zeros(shape, requires_grad=True), torch.zeros(shape[:1], dtype=torch.long)
    center = loss_class is losses.CenterLoss
    criterion = losses.CenterLoss(2, 4) if center else loss_class()
    needed = [name for name in criterion.reads if name not in criterion.optional or name == "labels"]
    inputs = {name: y if name == "labels" else x for name in needed}
    if loss_class is losses.PairContrastiveLoss:
        inputs["target"] = torch.ones(shape)
    least, most = FEATURES[needed[0]]
    if not least <= len(shape) <= most or (center and shape[1] != 4):
        with pytest.raises(InputError, match=f"^{loss_class.__name__}: wanted"):
            criterion(**inputs)
        return
    value = criterion(**inputs)
    (gradient,) = torch.autograd.grad(value, x)
    values = math.prod(shape[:-1]) if loss_class is losses.CosineDistanceLoss else math.prod(shape[:1])
    assert value.item() == pytest.approx(ODD[loss_class] if values else 0)
    assert gradient.shape == shape
    assert gradient.isfinite().all()


@pytest.mark.parametrize("n", [12, 100])
@every_distance
def test_distances_have_batched_functional_and_second_gradients(distance: Distance, n: int) -> None:
    for dtype in (torch.float64, torch.float32):
        x = clusters(n, 5, 1e-1, dtype)[0]
        weight = torch.randn(3, n, n, generator=torch.Generator().manual_seed(5), dtype=dtype) * (1 - torch.eye(n))

        def of(leaf: Tensor) -> Tensor:
            rows, pairwise = prepared(leaf, distance)
            return pairwise(rows, rows)

        leaf = x.clone().requires_grad_()
        each = torch.stack([torch.autograd.grad(of(leaf), leaf, w.to(of(leaf).dtype))[0] for w in weight])
        (batched,) = torch.autograd.grad(of(leaf), leaf, weight.to(of(leaf).dtype), is_grads_batched=True)
        of_func = torch.stack([torch.func.grad(lambda t: (of(t) * w).sum())(x) for w in weight])  # noqa: B023
        limit = 1e-9 if dtype == torch.float64 else 1e-5
        for found in (batched, of_func):
            torch.testing.assert_close(found, each, rtol=limit, atol=limit * each.abs().max().item())
        (first,) = torch.autograd.grad((of(leaf) * weight[0]).sum(), leaf, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), leaf)
        exact = double(x)
        plain = distances(exact, distance)
        (first,) = torch.autograd.grad((plain * weight[0]).sum(), exact, create_graph=True)
        (wanted,) = torch.autograd.grad(first.square().sum(), exact)
        torch.testing.assert_close(second.double(), wanted, rtol=1e-3, atol=1e-4 * wanted.abs().max().item())
