"""Metric learning equals plain loops over pairs and triplets, in one block and in many, with ties."""

import pytest
import torch
from plain_pairs import DISTANCES, MINERS, Formula, all_triplets, between, contrast, mean, pairs, softmax_contrast
from torch import Tensor

from lossframe import InputError, Loss, losses
from lossframe.losses.algorithms import anchorwise, distances
from lossframe.losses.algorithms.distances import centered, prepared
from lossframe.losses.algorithms.threads import each

N, D = 24, 4


@pytest.fixture(params=["one block", "many blocks"], autouse=True)
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    if request.param == "many blocks":
        monkeypatch.setattr(anchorwise, "BLOCK_BYTES", 5 * N * 8)
        monkeypatch.setattr(anchorwise, "ANCHORS_PER_THREAD", 1)


@pytest.mark.parametrize("n", [1, 7, 100, 1000, 1024, 4096, 100_000])
@pytest.mark.parametrize("first", [0, 3])
def test_blocks_hold_every_anchor_once_and_all_but_the_last_equally_many(n: int, first: int) -> None:
    split = anchorwise.blocks(torch.empty(n, 2), slice(first, max(n, first)))
    assert [row for rows in split for row in range(n)[rows]] == list(range(first, n))
    sizes = [rows.stop - rows.start for rows in split]
    assert len(set(sizes[:-1])) <= 1
    assert sizes[-1] <= sizes[0]


def sample(classes: int, integers: bool = False) -> tuple[Tensor, Tensor]:
    """Give embeddings and labels; the last sample is alone in its class."""
    x = torch.randint(0, 3, (N, D)).double() if integers else torch.randn(N, D, dtype=torch.float64)
    labels = torch.randint(0, classes, (N,))
    labels[-1] = 99
    return x.requires_grad_(), labels


def assert_equal(found: Tensor, wanted: Tensor, x: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        *(torch.autograd.grad(v, x, retain_graph=True)[0] for v in (found, wanted)), rtol=1e-11, atol=1e-11
    )


@pytest.mark.parametrize("classes", [1, 4, 20])
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize(("miner", "formula"), MINERS, ids=[m.__name__ for m, _ in MINERS])
def test_triplet_losses_equal_plain_loops(miner: type[Loss], formula: Formula, distance: str, classes: int) -> None:
    x, y = sample(classes)
    found = miner(margin=0.3, distance=distance)(x, y)  # type: ignore[call-arg]
    assert_equal(found, formula(between(x, distance), y.tolist(), 0.3), x)


@pytest.mark.parametrize("average", ["nonzero", "all"])
@pytest.mark.parametrize("margin", [0.0, 1.0, 2.0])
def test_triplet_exactly_at_the_margin_is_not_active(margin: float, average: str) -> None:
    x, y = sample(4, integers=True)
    wanted = all_triplets(between(x, "squared_euclidean"), y.tolist(), margin, average)
    assert_equal(losses.BatchAllTripletLoss(margin, average=average)(x, y), wanted, x)
    single = losses.BatchAllTripletLoss(margin, average=average)(x.float(), y)
    assert single.item() == pytest.approx(wanted.item(), rel=1e-6)


THREADS = (1, 2, 5)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("relational", [losses.BatchAllTripletLoss, losses.BatchSemiHardTripletLoss, losses.SupConLoss])
@pytest.mark.parametrize("n", [0, 1, 2, 300])
def test_any_number_of_threads_gives_the_same_loss(relational: type[Loss], n: int, reduction: str) -> None:
    x, y, found = torch.randn(n, D, dtype=torch.float64), torch.arange(n) % 7, []
    for number in THREADS:
        torch.set_num_threads(number)
        leaf = x.clone().requires_grad_()
        values = relational(reduction=reduction)(leaf, y)
        weight = torch.linspace(-1, 2, values.numel(), dtype=values.dtype).reshape(values.shape)
        found.append((values.detach(), *torch.autograd.grad(values, leaf, weight)))
        assert torch.get_num_threads() == number
        with torch.inference_mode():  # as in Lightning's validation
            torch.testing.assert_close(relational(reduction=reduction)(x, y), values.detach(), rtol=0, atol=0)
    torch.testing.assert_close(found[1:], found[:1] * 2, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("threads")
def test_work_shared_out_over_threads_comes_back_in_order_or_fails() -> None:
    for number in THREADS:
        torch.set_num_threads(number)
        assert each(lambda part: (part**2, torch.is_grad_enabled()), range(7)) == [(k**2, False) for k in range(7)]
        with pytest.raises(ZeroDivisionError):
            each(lambda part: 1 / part, [2, 1, 0])


def test_share_of_active_triplets_is_recorded() -> None:
    criterion = losses.BatchAllTripletLoss(margin=0.5)
    criterion(torch.tensor([[0.0], [1.0], [1.0]]), torch.tensor([0, 0, 1]))
    assert criterion.avg == {"active_triplets": 1.0, "loss": 1.0}


def test_weights_multiply_the_values_of_anchors() -> None:
    x, y = sample(3)
    weight = torch.rand(N, dtype=torch.float64)
    for criterion in (losses.BatchAllTripletLoss(reduction="none"), losses.NTXentLoss(reduction="none")):
        weighted = type(criterion)(reduction="sum")(x, y, weight=weight)
        assert_equal(weighted, (criterion(x, y) * weight).sum(), x)


def test_contrastive_loss_equals_plain_loops() -> None:
    x, y = sample(4)
    assert_equal(losses.ContrastiveLoss(margin=2.0)(x, y), contrast(between(x, "euclidean"), y.tolist(), 2.0), x)


def test_contrastive_is_exact_in_single_precision_for_close_pairs() -> None:
    x = 100 + torch.tensor([[0.0, 0.0], [2.0**-10, 0.0], [1.0, 1.0]])
    value = losses.ContrastiveLoss(margin=2.0**-9)(x, torch.tensor([0, 1, 2]))
    assert value.item() == pytest.approx(2.0**-21 / 3, rel=1e-6)


@pytest.mark.parametrize(
    ("criterion", "over_pairs"),
    [(losses.NTXentLoss(temperature=0.5), True), (losses.SupConLoss(temperature=0.5), False)],
)
def test_softmax_contrast_equals_plain_loops(criterion: Loss, over_pairs: bool) -> None:
    x, y = sample(4)
    assert_equal(criterion(x, y), softmax_contrast(x, y.tolist(), 0.5, over_pairs), x)


def test_views_count_as_samples_of_the_same_label() -> None:
    x, y = sample(4)
    views, twice = torch.randn_like(x), torch.arange(N).repeat(2)
    wanted = softmax_contrast(torch.cat([x, views]), twice.tolist(), 0.1, True)
    criterion = losses.NTXentLoss(temperature=0.1)
    assert_equal(criterion(x, views=views), wanted, x)
    assert_equal(criterion(x, y, views=views), wanted, x)
    assert_equal(criterion(torch.cat([x, views]), twice), wanted, x)
    wanted = softmax_contrast(torch.cat([x, views]), y.repeat(2).tolist(), 0.1, False)
    assert_equal(losses.SupConLoss(temperature=0.1)(x, y, views), wanted, x)


@pytest.mark.parametrize("features", [3, 40])
def test_decorrelation_losses_equal_plain_formulae(features: int) -> None:
    x = torch.randn(N, features, dtype=torch.float64, requires_grad=True)
    cosines = 1 - between(x, "cosine")
    for squared in (True, False):
        wanted = mean([cosines[i, j] ** (2 if squared else 1) for i, j in pairs([0] * N, True)])
        assert_equal(losses.PullAwayLoss(squared=squared)(x), wanted, x)
    covariance = torch.cov(x.T, correction=0)
    wanted = (covariance.square().sum() - covariance.diagonal().square().sum()) / 2
    assert_equal(losses.DeCovLoss()(x.reshape(N, -1, 1)), wanted, x)


def test_pair_contrastive_loss_of_given_distances_is_right() -> None:
    distance, target = torch.tensor([0.5, 2.0, 0.5, 2.0]), torch.tensor([1, 1, 0, 0])
    values = losses.PairContrastiveLoss(margin=1.5, reduction="none")(distance, target)
    assert values.tolist() == [0.125, 2.0, 0.5, 0.0]
    assert torch.equal(losses.PairContrastiveLoss(margin=1.5, reduction="none")(distance, target != 0), values)


def test_softmax_contrast_without_labels_or_views_is_an_input_error() -> None:
    x = torch.randn(4, D)
    with pytest.raises(InputError, match=r"^NTXentLoss: wanted 'labels' or 'views'"):
        losses.NTXentLoss()(x)
    with pytest.raises(InputError, match=r"embeddings \[4, 4\] and views \[3, 4\]"):
        losses.NTXentLoss()(x, views=x[:3])


def test_far_clusters_keep_their_precision() -> None:
    x = 1e3 + 1e-2 * torch.randn(N, D) + torch.randn(1, D)
    y = torch.arange(N) % 3
    wanted = all_triplets(between(x.double(), "squared_euclidean"), y.tolist(), 0.0)
    assert losses.BatchAllTripletLoss(margin=0.0)(x, y).item() == pytest.approx(wanted.item(), rel=1e-4)
    integers = torch.randint(-50, 50, (N, D)).double() + 1e6
    assert torch.equal(centered(integers), centered(integers).round())


@pytest.mark.parametrize("few", [distances.FEW_NEAR_PAIRS, 0])
def test_gradients_of_euclidean_distances_equal_float64(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "FEW_NEAR_PAIRS", few)
    near = 5 + torch.tensor([0.0, 2.0**-14, 2.0**-10, 2.0**-4])[:, None] * torch.eye(D)[0]
    x = torch.cat([torch.randn(N, D), torch.zeros(2, D), near]).requires_grad_()
    exact = x.detach().double().requires_grad_()
    rows, pairwise = prepared(x, "euclidean")
    torch.testing.assert_close(pairwise(rows, rows).double(), between(exact, "euclidean"), rtol=1e-5, atol=0)
    for create_graph in (False, True):
        rows, pairwise = prepared(x, "euclidean")
        found = (pairwise(rows, rows) ** 2).sum() + pairwise(rows, rows).sum()
        wanted = (between(exact, "euclidean") ** 2).sum() + between(exact, "euclidean").sum()
        (of_found,), (of_wanted,) = (
            torch.autograd.grad(v, leaf, create_graph=create_graph) for v, leaf in ((found, x), (wanted, exact))
        )
        torch.testing.assert_close(of_found.double(), of_wanted, rtol=1e-5, atol=1e-5)
    twice = [torch.autograd.grad(g.square().sum(), leaf)[0] for g, leaf in ((of_found, x), (of_wanted, exact))]
    torch.testing.assert_close(twice[0].double(), twice[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("classes", [3, 8])
@pytest.mark.parametrize(("average", "reducer"), [("nonzero", "AvgNonZeroReducer"), ("all", "MeanReducer")])
def test_batch_all_triplet_equals_pytorch_metric_learning(average: str, reducer: str, classes: int) -> None:
    theirs, distances, reducers = (
        pytest.importorskip(f"pytorch_metric_learning.{part}") for part in ("losses", "distances", "reducers")
    )

    x, y = sample(classes)
    unit = torch.nn.functional.normalize(x)
    wanted = theirs.TripletMarginLoss(
        margin=0.3,
        triplets_per_anchor="all",
        distance=distances.LpDistance(normalize_embeddings=False),
        reducer=getattr(reducers, reducer)(),
    )(unit, y)
    found = losses.BatchAllTripletLoss(margin=0.3, distance="euclidean", average=average)(unit, y)
    assert_equal(found, wanted, x)
