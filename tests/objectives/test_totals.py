"""`total` and `weighted/TERM` are those of all values of a window, however these are cut into batches and shards."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from pool import Pool
from torch import Tensor

from lossframe import InputError, Loss, NativeLoss, Objective, drain, losses
from lossframe.objectives.weighting import Weighting

SIZES = (133, 64, 32, 5)
CLASSES = 4


@dataclass(frozen=True)
class Term:
    """A separable term: how to make its loss, and its numerator and denominator for a batch, in numpy."""

    make: Callable[[], Loss]
    parts: Callable[[dict[str, np.ndarray]], tuple[float, float]]
    weighted: bool = False


class SequenceLoss(Loss):
    """Gives the sum of penalties of each sequence, and the number of them."""

    def loss(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        return (prediction - target)[:, 0].square()

    def counts(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        return 1 + mask


def _squares(b: dict[str, np.ndarray]) -> np.ndarray:
    return (b["prediction"] - b["target"]) ** 2


def _nll(b: dict[str, np.ndarray]) -> np.ndarray:
    log_p = b["logits"] - np.log(np.exp(b["logits"]).sum(1, keepdims=True))
    return -log_p[np.arange(len(log_p)), np.maximum(b["label"], 0)]


CLASS_WEIGHT = np.array([1.0, 2.0, 0.5, 3.0])


def _class_weight(b: dict[str, np.ndarray]) -> np.ndarray:
    return np.where(b["label"] < 0, 0, CLASS_WEIGHT[np.maximum(b["label"], 0)])


def _class_weighted(b: dict[str, np.ndarray]) -> tuple[float, float]:
    return (_class_weight(b) * _nll(b)).sum(), _class_weight(b).sum()


def _cross_entropy(reduction: Any, **options: Any) -> Callable[[], Loss]:
    return lambda: losses.CrossEntropyLoss(reduction=reduction, ignore_index=-1, **options)


WEIGHTS = torch.from_numpy(CLASS_WEIGHT)
TERMS: dict[str, Term] = {
    "mean": Term(losses.MSELoss, lambda b: (_squares(b).sum(), _squares(b).size)),
    "sum": Term(lambda: losses.MSELoss(reduction="sum"), lambda b: (_squares(b).sum(), 1)),
    "batch_mean": Term(
        lambda: losses.MSELoss(reduction="batch_mean"), lambda b: (_squares(b).sum(), len(b["prediction"]))
    ),
    "element_mean": Term(
        lambda: losses.MSELoss(reduction="element_mean"),
        lambda b: ((b["mask"][:, None] * _squares(b)).sum(), _squares(b).size),
        weighted=True,
    ),
    "mask": Term(
        losses.MSELoss, lambda b: ((b["mask"][:, None] * _squares(b)).sum(), 3 * (b["mask"] != 0).sum()), weighted=True
    ),
    "weighted_mean": Term(
        lambda: losses.MSELoss(reduction="weighted_mean"),
        lambda b: ((b["mask"][:, None] * _squares(b)).sum(), 3 * b["mask"].sum()),
        weighted=True,
    ),
    "ignore_index": Term(_cross_entropy("mean"), lambda b: (_nll(b)[b["label"] >= 0].sum(), (b["label"] >= 0).sum())),
    "class weights": Term(_cross_entropy("weighted_mean", class_weight=CLASS_WEIGHT.tolist()), _class_weighted),
    "torch's class weights": Term(
        lambda: NativeLoss(torch.nn.CrossEntropyLoss(weight=WEIGHTS, ignore_index=-1)), _class_weighted
    ),
    "sequences": Term(SequenceLoss, lambda b: (_squares(b)[:, 0].sum(), (1 + b["mask"]).sum())),
    "batch means": Term(
        lambda: NativeLoss(lambda p, t: (p - t).square().mean()), lambda b: (_squares(b).sum(), _squares(b).size)
    ),
    "a scalar of the frame": Term(
        losses.AuxiliaryLoss, lambda b: (len(b["prediction"]) * b["prediction"].max(), len(b["prediction"]))
    ),
}
READS = {
    losses.CrossEntropyLoss: {"target": "label"},
    losses.AuxiliaryLoss: {"value": "largest"},
}


def frame(size: int, seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    label = generator.integers(-1, CLASSES, size)
    return {
        "prediction": generator.normal(size=(size, 3)),
        "target": generator.normal(size=(size, 3)),
        "logits": generator.normal(size=(size, CLASSES)),
        "label": label,
        "mask": generator.integers(0, 3, size).astype(float),
    }


def wired(name: str, loss: Loss) -> dict[str, str | None]:
    if name.startswith("torch's"):
        return {"prediction": "logits", "target": "label"}
    return {**READS.get(type(loss), {}), **({"weight": "mask"} if TERMS[name].weighted else {})}


def tensors(batch: dict[str, np.ndarray]) -> dict[str, Tensor]:
    found = {name: torch.from_numpy(array) for name, array in batch.items()}
    return found | {"largest": found["prediction"].max() if len(batch["prediction"]) else torch.zeros(())}


def objective(names: list[str], weights: dict[str, float]) -> Objective:
    made = {name: TERMS[name].make() for name in names}
    return Objective(made, weights, {name: wired(name, loss) for name, loss in made.items()})


@pytest.mark.parametrize("name", TERMS)
def test_total_of_one_term_is_the_mean_of_its_values_with_a_short_last_batch(name: str) -> None:
    criterion, parts = objective([name], {}), []
    for seed, size in enumerate(SIZES):
        batch = frame(size, seed)
        criterion(tensors(batch))
        parts.append(TERMS[name].parts(batch))
    wanted = sum(n for n, _ in parts) / sum(d for _, d in parts)
    found = criterion.avg
    assert found["total"] == pytest.approx(wanted, rel=1e-9)
    assert found[f"weighted/{name}"] == pytest.approx(wanted, rel=1e-9)
    loss = criterion.losses[name]
    if loss.reduction in ("mean", "weighted_mean"):
        assert loss.avg["loss"] == pytest.approx(found["total"], rel=1e-9)


def wanted_means(names: list[str], weights: list[dict[str, float]]) -> dict[str, float]:
    """Return the weighted mean of each term over batches, with the weights of each call."""
    sums: dict[str, list[float]] = {name: [0.0, 0.0] for name in names}
    for seed, size in enumerate(SIZES):
        for name in names:
            numerator, denominator = TERMS[name].parts(frame(size, seed))
            sums[name][0] += weights[seed][name] * numerator
            sums[name][1] += denominator
    return {name: numerator / denominator for name, (numerator, denominator) in sums.items()}


def recorded(rank: int, names: list[str], weights: list[dict[str, float]], shares: list[float]) -> dict[str, Any]:
    """Call an objective on this rank's shards, and return drained means, spreads of the total and local means."""
    criterion = objective(names, weights[0])
    for seed, size in enumerate(SIZES):
        criterion.weights.update(weights[seed])  # type: ignore[attr-defined]
        edges = np.round(np.cumsum([0.0, *shares]) * size).astype(int)
        mine = slice(edges[rank], edges[rank + 1])
        criterion(tensors({name: array[mine] for name, array in frame(size, seed).items()}))
    avg = criterion.avg
    named = drain({"o": criterion})["o"]
    total = named["total"]
    return {name: m.mean for name, m in named.items()} | {
        "spread": (total.count, total.std, total.min, total.max), "avg": avg["total"],
    }  # fmt: skip


def test_total_of_many_terms_is_the_sum_of_their_means_on_any_number_of_ranks(pool: Pool) -> None:
    names = [name for name in TERMS if name != "a scalar of the frame"]
    weights = [{name: 0.5 + k + seed for k, name in enumerate(names)} for seed in range(len(SIZES))]
    means, spreads = wanted_means(names, weights), []
    for shares in ([1.0], [0.8, 0.2], [0.0, 1.0]):
        for found in pool.run(len(shares), recorded, names, weights, shares):
            assert found["total"] == pytest.approx(sum(means.values()), rel=1e-9)
            assert {n: found[f"weighted/{n}"] for n in names} == pytest.approx(means, rel=1e-9)
            spreads.append(found["spread"])
            assert found["avg"] == pytest.approx(found["total"], rel=1e-9)
    assert all(spread == pytest.approx(spreads[0], rel=1e-9) for spread in spreads)
    assert spreads[0][0] == sum(SIZES)


def test_term_that_is_absent_from_a_batch_counts_nothing() -> None:
    criterion = Objective(
        {"mse": losses.MSELoss(), "triplet": losses.BatchAllTripletLoss(margin=2.0)},
        {"triplet": 2.0},
        {"mse": {"prediction": "embeddings"}},
    )
    x = torch.tensor([[0.0], [1.0], [1.5]])
    criterion({"embeddings": x, "target": 0 * x, "labels": torch.tensor([0, 0, 1])})
    both = criterion.avg
    criterion({"embeddings": x, "target": 0 * x, "labels": torch.tensor([0, 1, 2])})
    assert criterion.avg == pytest.approx(both, rel=1e-6)


class Largest(Weighting):
    """The total is no weighted sum: it is the largest term."""

    def total(self, terms: Any) -> Tensor:
        return torch.stack(list(terms.values())).amax()


def test_total_of_no_weighted_sum_is_the_mean_over_batches_by_their_samples() -> None:
    criterion = Objective({"mse": losses.MSELoss(), "l1": losses.L1Loss()}, weighting=Largest)
    totals = [criterion(tensors(frame(size, seed))).item() for seed, size in enumerate(SIZES)]
    assert criterion.avg["total"] == pytest.approx(np.average(totals, weights=SIZES))


@pytest.mark.parametrize(
    "shared",
    [
        lambda loss: {"b": loss, "c": losses.MSELoss(), "a": loss},
        lambda loss: {"b": NativeLoss(loss), "a": loss},
        lambda loss: {"a": loss, "c": losses.MSELoss(), "b": NativeLoss(loss)},
    ],
)
def test_one_loss_in_two_terms_is_refused_by_name(shared: Any) -> None:
    with pytest.raises(InputError, match=r"terms '[ab]' and '[ab]' hold one MSELoss, .* copy.deepcopy"):
        Objective(shared(losses.MSELoss()))


def test_copies_of_a_loss_keep_statistics_of_their_own() -> None:
    loss = losses.MSELoss()
    criterion = Objective({"a": loss, "b": copy.deepcopy(loss)}, inputs={"b": {"prediction": "other"}})
    criterion({"prediction": torch.ones(2), "other": torch.full((2,), 3.0), "target": torch.zeros(2)})
    assert [each.avg["loss"] for _, each in criterion.named_losses()] == [1, 9]


@pytest.mark.parametrize("loss_class", [losses.MSELoss, losses.CenterLoss])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30, -1.0])
def test_weights_of_any_scale_are_counts_of_a_weighted_mean(loss_class: Any, scale: float) -> None:
    loss = loss_class(
        reduction="weighted_mean", **({"num_classes": 2, "num_features": 1} if loss_class.relational else {})
    )
    entries = {"prediction": "features"} if loss_class is losses.MSELoss else {}
    criterion = Objective({"x": loss.double()}, inputs={"x": {**entries, "weight": "w"}})
    x, w = torch.tensor([[1.0], [3.0], [5.0]]).double(), scale * torch.tensor([1.0, 0.0, 0.5]).double()
    value = criterion({"features": x, "target": 0 * x, "labels": torch.tensor([0, 1, 1]), "w": w})
    found = [criterion.avg["total"], criterion.avg["weighted/x"], loss.avg["loss"] * np.sign(scale)]
    assert found == pytest.approx([value.item()] * 3, rel=1e-9)
