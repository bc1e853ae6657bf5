"""Anchors without partners, and batches without pairs, are no values: recorded statistics do not contain them."""

from typing import Any

import numpy as np
import pytest
import torch
from plain_anchors import OF_ANCHORS, standing
from pool import Pool
from torch import Tensor

from lossframe import Loss, NonFiniteError, drain, losses
from lossframe.losses.base.per_sample import PerSample

CASES: dict[str, tuple[type[Loss], dict[str, Any]]] = {
    "batch all": (losses.BatchAllTripletLoss, {"margin": 1.0}),
    "batch all, few active": (losses.BatchAllTripletLoss, {"margin": 0.01}),
    "batch all over all": (losses.BatchAllTripletLoss, {"margin": 1.0, "average": "all"}),
    "semi-hard": (losses.BatchSemiHardTripletLoss, {"margin": 1.0}),
    "semi-hard, soft": (losses.BatchSemiHardTripletLoss, {"soft_margin": True}),
    "batch hard": (losses.BatchHardTripletLoss, {"margin": 1.0}),
    "contrastive": (losses.ContrastiveLoss, {"margin": 3.0}),
    "NT-Xent of labels": (losses.NTXentLoss, {}),
    "SupCon": (losses.SupConLoss, {}),
}
every_case = pytest.mark.parametrize("case", CASES)
LABELS = {"lone anchors": [0, 0, 0, 1, 1, 2, 3], "pairs": [0, 0, 1, 1], "one class": [0, 0, 0], "alone": [0]}


def batch(labels: list[int], seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "embeddings": torch.randn(len(labels), 3, generator=generator, dtype=torch.float64),
        "labels": torch.tensor(labels),
    }


def made(case: str, **options: Any) -> Loss:
    loss_class, arguments = CASES[case]
    return loss_class(**arguments, **options)


def without_partners(case: str) -> list[int]:
    """Return labels of a batch in which no anchor has what the loss compares it with."""
    return [0] if case == "contrastive" else [0, 1, 2, 3]


@every_case
@pytest.mark.parametrize("first", [True, False])
def test_batch_without_partners_changes_no_statistic(case: str, first: bool) -> None:
    criterion, alone = made(case, log_std=True, log_quantiles=True), made(case, log_std=True, log_quantiles=True)
    value = alone(**batch(LABELS["lone anchors"]))
    empty = batch(without_partners(case), 1)
    empty["embeddings"].requires_grad_()
    calls = [lambda: criterion(**batch(LABELS["lone anchors"])), lambda: criterion(**empty)]
    results = [call() for call in (calls if not first else calls[::-1])]
    nothing = results[0 if first else 1]
    assert nothing.item() == 0
    (gradient,) = torch.autograd.grad(nothing, empty["embeddings"])
    assert (gradient == 0).all()
    found, wanted = criterion.moments()["loss"], alone.moments()["loss"]
    assert found.numbers == pytest.approx(wanted.numbers, rel=1e-12)
    assert found.histogram.state() == wanted.histogram.state()
    assert criterion.avg["loss"] == pytest.approx(value.item(), rel=1e-12)


@every_case
def test_recorded_mean_of_a_batch_is_its_loss(case: str) -> None:
    for name, labels in LABELS.items():
        criterion = made(case)
        value = criterion(**batch(labels)).item()
        assert criterion.avg.get("loss", 0.0) == pytest.approx(value, rel=1e-12, abs=1e-15), name


@pytest.mark.parametrize("case", [case for case, (loss, _) in CASES.items() if loss in OF_ANCHORS])
def test_statistics_are_those_of_the_anchors_that_have_partners(case: str) -> None:
    criterion, values, counts = made(case, log_std=True), [], []
    for seed, labels in enumerate([*LABELS.values(), without_partners(case)]):
        criterion(**batch(labels, seed))
        plain = standing(criterion, batch(labels, seed))
        values.append(plain[0][plain[1] > 0].numpy())
        counts.append(plain[1][plain[1] > 0].numpy())
    x, c = np.concatenate(values), np.concatenate(counts)
    found, mean = criterion.moments()["loss"], (c * x).sum() / c.sum()
    wanted = [c.sum(), mean, ((c * (x - mean) ** 2).sum() / c.sum()) ** 0.5, x.min(), x.max()]
    assert [found.count, found.mean, found.std, found.min, found.max] == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("loss_class", [losses.NTXentLoss, losses.SupConLoss])
def test_views_give_each_sample_a_partner(loss_class: type[Loss]) -> None:
    for labels in (LABELS["lone anchors"], [0]):
        inputs = {**batch(labels), "views": batch(labels, 1)["embeddings"]}
        criterion = loss_class()
        value = criterion(**inputs)
        assert criterion.avg["loss"] == pytest.approx(value.item(), rel=1e-12)
        assert criterion.moments()["loss"].count == len(labels)


def test_batch_whose_triplets_all_satisfy_the_margin_is_a_zero_of_each_anchor() -> None:
    criterion = losses.BatchAllTripletLoss(margin=0.1)
    criterion(torch.tensor([[0.0], [0.0], [9.0], [9.0], [50.0]]), torch.tensor([0, 0, 1, 1, 2]))
    found = criterion.moments()["loss"]
    assert (found.count, found.mean, found.max) == (4, 0, 0)


def test_share_of_active_triplets_counts_triplets() -> None:
    criterion = losses.BatchAllTripletLoss(margin=0.5)
    criterion(torch.tensor([[0.0], [1.0], [1.0]]), torch.tensor([0, 0, 1]))
    criterion(torch.tensor([[0.0], [1.0], [1.0]]), torch.tensor([0, 1, 2]))
    assert criterion.avg == {"active_triplets": 1.0, "loss": 1.0}


@pytest.mark.parametrize("criterion", [losses.BatchAllTripletLoss(margin=2.0), losses.BatchSemiHardTripletLoss(2.0)])
def test_value_of_a_sample_does_not_depend_on_anchors_of_other_classes(criterion: Loss) -> None:
    near = torch.tensor([[0.0], [1.0], [1.5]], dtype=torch.float64)
    criterion.samples, found = PerSample(), []
    for x, y in ((near, [0, 0, 1]), (torch.cat([near, near[-1:]]), [0, 0, 1, 1])):
        criterion(x, torch.tensor(y))
        found.append(criterion.samples.values)
    assert found[0][:2].tolist() == pytest.approx(found[1][:2].tolist(), rel=1e-12)


@every_case
def test_embedding_that_is_nan_is_noticed(case: str) -> None:
    for row in range(len(LABELS["pairs"])):
        inputs, criterion = batch(LABELS["pairs"]), made(case)
        inputs["embeddings"][row] = torch.nan
        criterion(**inputs)
        with pytest.raises(NonFiniteError):
            criterion.avg  # noqa: B018


@pytest.mark.parametrize("loss_class", [losses.DeCovLoss, losses.PullAwayLoss])
def test_empty_batch_is_no_value(loss_class: type[Loss]) -> None:
    criterion = loss_class()
    assert criterion(torch.zeros(0, 3, requires_grad=True)).item() == 0
    assert criterion.avg == {}


def on_ranks(rank: int, case: str, sizes: list[int]) -> tuple[float, ...]:
    """Record two batches on this rank's shards, and return the drained statistics."""
    criterion = made(case, log_std=True)
    mine = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
    for seed, labels in enumerate((LABELS["lone anchors"], without_partners(case))):
        criterion(**{name: tensor[mine] for name, tensor in batch(labels, seed).items()})
    found = drain({"term": criterion})["term"]["loss"]
    return found.count, found.mean, found.std, found.min, found.max


@every_case
def test_absent_values_are_none_on_two_ranks(pool: Pool, case: str) -> None:
    criterion = made(case)
    criterion(**batch(LABELS["lone anchors"]))
    wanted = criterion.moments()["loss"]
    for found in pool.run(2, on_ranks, case, [5, 2]):
        assert found == pytest.approx((wanted.count, wanted.mean, wanted.std, wanted.min, wanted.max), rel=1e-9)
