"""Metric learning in float32 equals plain loops in float64: far groups, offsets, and scales from 1e-30 to 1e30."""

from itertools import product

import pytest
import torch
from plain_pairs import (
    DISTANCES,
    FORMULAE,
    all_triplets,
    between,
    contrast,
    double,
    evaluate,
    every_distance,
    every_miner,
    mean,
    pairs,
    softmax_contrast,
)
from torch import Tensor

from lossframe import Loss, losses
from lossframe.losses.algorithms import anchorwise, rows
from lossframe.losses.algorithms.distances import prepared
from lossframe.losses.algorithms.rows import Distance


@pytest.fixture(autouse=True)
def _as_large_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluate float32 batches as large ones are: in float32, but for near pairs."""
    monkeypatch.setattr(rows, "FEW", 0)


@pytest.fixture(params=["one block", "many blocks"])
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "many blocks":
        monkeypatch.setattr(anchorwise, "BLOCK_BYTES", 2 * 6 * 8)
        monkeypatch.setattr(anchorwise, "ANCHORS_PER_THREAD", 1)


def groups(s: float, features: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return two tight groups at -s and s, in float32, whose classes do not mix."""
    x = torch.tensor([-s, -s + 0.1, -s + 0.4, s, s + 0.1, s + 0.4])[:, None]
    y = torch.tensor([0, 0, 1, 2, 2, 3])
    if features == 1:
        return x, y
    g = torch.Generator().manual_seed(seed)
    return x + 0.3 * torch.randn(6, features, generator=g), y


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
@pytest.mark.parametrize("s", [1e3, 1e6])
@pytest.mark.parametrize(
    ("distance", "features"), [case for case in product(DISTANCES, (1, 128)) if case != ("cosine", 1)]
)  # all cosines of one feature are 1 or -1
def test_triplets_of_far_groups_equal_float64(miner: type[Loss], distance: Distance, s: float, features: int) -> None:
    x, y = groups(s, features)
    exact = double(x)
    margin = {"squared_euclidean": 0.5 * features, "euclidean": 0.5 * features**0.5, "cosine": 0.2}[distance]
    wanted = FORMULAE[miner](distances(exact, distance), y.tolist(), margin)
    assert_right(miner(margin=margin, distance=distance), wanted, exact, x, y)  # type: ignore[call-arg]


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("s", [1e2, 1e4, 1e6])
def test_contrast_of_far_groups_equals_float64(s: float) -> None:
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
    """Few pairs are near with 40 rows, many with 160."""
    for n in (40, 160):
        x, _ = clusters(n, 16, spread, dtype)
        for distance in ("squared_euclidean", "euclidean"):
            made, pairwise = prepared(x, distance)
            wanted = between(x.double(), distance)
            rtol = 1e-5 if dtype == torch.float32 else 1e-11
            torch.testing.assert_close(pairwise(made, made).double(), wanted, rtol=rtol, atol=0)
            part = slice(7, 30)
            torch.testing.assert_close(pairwise(made[part], made, part).double(), wanted[part], rtol=rtol, atol=0)


@pytest.mark.parametrize("n", [40, 160])
@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("distance", ["squared_euclidean", "euclidean"])
def test_gradients_within_clusters_are_exact(distance: Distance, spread: float, n: int) -> None:
    x, y = clusters(n, 16, spread)
    exact, leaf = double(x), x.clone().requires_grad_()
    weight = (y[:, None] == y) * (between(x.double(), "euclidean") < 9)  # within a cluster
    made, pairwise = prepared(leaf, distance)
    found, wanted = ((d * weight).sum() for d in (pairwise(made, made), between(exact, distance)))
    (of_found,), (of_wanted,) = torch.autograd.grad(found, leaf), torch.autograd.grad(wanted, exact)
    torch.testing.assert_close(of_found.double(), of_wanted, rtol=1e-4, atol=1e-5 * of_wanted.abs().max().item())


def sample(n: int = 10, features: int = 6) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(2)
    return torch.randn(n, features, generator=g, dtype=torch.float64), torch.arange(n) % 3


SCALES = [1e-30, 1e-18, 1.0, 1e12, 1e18, 1e30]


@every_miner
@every_distance
@pytest.mark.parametrize("scale", SCALES)
def test_triplets_at_any_scale_equal_float64(miner: type[Loss], distance: Distance, scale: float) -> None:
    x, y = sample()
    x = (scale * x).float()
    exact, margin = double(x), 0.2 if distance == "cosine" else min(scale, 1e15)
    wanted = FORMULAE[miner](distances(exact, distance), y.tolist(), margin)
    assert_right(miner(margin=margin, distance=distance), wanted, exact, x, y)  # type: ignore[call-arg]


@pytest.mark.parametrize("scale", SCALES)
def test_contrast_and_directions_at_any_scale_equal_float64(scale: float) -> None:
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
def test_offset_of_all_rows_loses_no_digits(offset: float) -> None:
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


def test_negative_far_away_has_value_and_gradient_0() -> None:
    x = torch.tensor([[0.0], [0.5], [1e20], [1e20]])
    value, gradient = evaluate(losses.BatchHardTripletLoss(distance="euclidean"), x, torch.tensor([0, 0, 1, 1]))
    assert (value, gradient.any()) == (0, False)
    value, gradient = evaluate(losses.BatchAllTripletLoss(), x, torch.tensor([0, 0, 1, 1]))
    assert (value, gradient.any()) == (0, False)


def test_value_beyond_float32_is_infinite_and_its_gradient_finite() -> None:
    x = torch.tensor([[0.0], [1e20]])
    for criterion in (losses.BatchAllTripletLoss(), losses.ContrastiveLoss()):
        value, gradient = evaluate(criterion, torch.cat([x, x]), torch.tensor([0, 0, 1, 1]))
        assert value == torch.inf
        assert gradient.isfinite().all()
        assert gradient.any()


@pytest.mark.parametrize("n", [12, 100])
@every_distance
def test_batched_functional_and_second_gradients_of_distances_are_right(distance: Distance, n: int) -> None:
    for dtype in (torch.float64, torch.float32):
        x = clusters(n, 5, 1e-1, dtype)[0]
        weight = torch.randn(3, n, n, generator=torch.Generator().manual_seed(5), dtype=dtype) * (1 - torch.eye(n))

        def of(leaf: Tensor) -> Tensor:
            made, pairwise = prepared(leaf, distance)
            return pairwise(made, made)

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
