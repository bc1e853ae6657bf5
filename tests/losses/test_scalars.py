"""A single number of a batch is recorded as the mean of its samples, or of as many values as the call says."""

from collections.abc import Callable

import pytest
import torch
from pool import Pool
from torch import Tensor, nn

from lossframe import InputError, Loss, NativeLoss, Objective, drain, losses

SIZES = (133, 64, 5)


def batches() -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    return [(torch.rand(n, 4), torch.rand(n, 4)) for n in SIZES]


def together(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    prediction, target = (torch.cat(each).double() for each in zip(*parts, strict=True))
    return prediction, target


def mean_square(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).square().mean()


SCALARS: dict[str, Callable[..., Loss]] = {
    "a function": lambda **o: NativeLoss(mean_square, **o),
    "a function of each rank's samples": lambda **o: NativeLoss(mean_square, relational=False, **o),
    "a result of shape [1]": lambda **o: NativeLoss(lambda p, t: mean_square(p, t)[None], **o),
    "a subclass of a criterion": lambda **o: NativeLoss(type("Mine", (nn.MSELoss,), {})(), **o),
    "a loss of one's own": type("Own", (Loss,), {"loss": lambda self, p, t: mean_square(p, t)}),
}
every_scalar = pytest.mark.parametrize("kind", SCALARS)


def numbers_recorded(rank: int, kind: str, shares_: list[float]) -> tuple[float, float, float]:
    """Return the last value, the recorded mean and its count on this rank's shards of uneven batches."""
    criterion, value = SCALARS[kind](), torch.zeros(())
    for n, part in zip(SIZES, batches(), strict=True):
        edges = [round(n * sum(shares_[:k])) for k in range(len(shares_) + 1)]
        value = criterion(*(x[edges[rank] : edges[rank + 1]].double() for x in part))
    found = drain({"c": criterion})["c"]["loss"]
    return value.item(), found.mean, found.count


@every_scalar
def test_scalar_is_recorded_as_the_mean_of_its_batch(kind: str) -> None:
    parts = batches()
    value, mean, count = numbers_recorded(0, kind, [1.0])
    assert value == pytest.approx(mean_square(*together(parts[-1:])).item(), rel=1e-12)
    assert mean == pytest.approx(mean_square(*together(parts)).item(), rel=1e-12)
    assert count == sum(SIZES)


def test_scalar_counts_alike_on_two_ranks(pool: Pool) -> None:
    for kind in SCALARS:
        wanted = numbers_recorded(0, kind, [1.0])
        for shares_ in ([0.8, 0.2], [1.0, 0.0]):
            for found in pool.run(2, numbers_recorded, kind, shares_):
                assert found == pytest.approx(wanted, rel=1e-9), kind


def test_count_of_a_call_says_how_many_values_a_scalar_stands_for() -> None:
    means, sizes = [1.0, 5.0, 30.0], [128.0, 128.0, 7.0]
    wanted = sum(m * n for m, n in zip(means, sizes, strict=True)) / sum(sizes)
    for count in (float, torch.tensor):
        auxiliary, native, logged = losses.AuxiliaryLoss(), NativeLoss(lambda p, t: p), losses.MSELoss()
        summed = losses.AuxiliaryLoss(reduction="sum")
        for m, n in zip(means, sizes, strict=True):
            assert auxiliary(torch.tensor(m), count=count(n)).item() == m
            assert summed(torch.tensor(m), count=count(n)).item() == m
            assert native(torch.tensor(m), torch.zeros(()), count=count(n)).item() == m
            logged.log("kl", torch.tensor(m), count=count(n))
        found = [each.avg["loss"] for each in (auxiliary, native, summed)] + [logged.avg["kl"]]
        assert found == pytest.approx([wanted] * 4, rel=1e-9)


def counted(rank: int) -> tuple[float, float]:
    criterion = losses.AuxiliaryLoss()
    value = criterion(torch.tensor([1.0, 4.0][rank]), count=[7, 2][rank])
    return value.item(), drain({"c": criterion})["c"]["loss"].mean


def test_counted_scalars_of_ranks_are_averaged_by_their_counts(pool: Pool) -> None:
    for found in pool.run(2, counted):
        assert found == pytest.approx((15 / 9, 15 / 9))


def test_scalar_of_a_frame_counts_the_samples_of_the_frame_or_an_entry() -> None:
    for inputs in ({}, {"kl": {"count": "tokens"}}):
        objective = Objective({"mse": losses.MSELoss(), "kl": losses.AuxiliaryLoss()}, inputs=inputs)
        for n, kl, tokens in ((4, 1.0, 30), (1, 6.0, 10)):
            x = torch.ones(n)
            objective({"prediction": x, "target": 0 * x, "value": torch.tensor(kl), "tokens": tokens})
        wanted = (30 * 1 + 10 * 6) / 40 if inputs else (4 * 1 + 1 * 6) / 5
        assert objective.avg["weighted/kl"] == pytest.approx(wanted)
        assert objective.avg["total"] == pytest.approx(1 + wanted)


def test_count_of_0_leaves_the_value_and_is_not_recorded() -> None:
    criterion = losses.AuxiliaryLoss()
    assert criterion(torch.tensor(3.0), count=0).item() == 3
    assert criterion.avg == {}


def empty_shard(rank: int) -> tuple[float, float]:
    criterion = Objective({"kl": losses.AuxiliaryLoss()})
    x = torch.ones(3 if rank else 0, 1)
    value = criterion({"x": x, "value": x.mean()})  # of nothing it is NaN
    return value.item(), drain({"c": criterion})["c"]["weighted/kl"].mean


def test_scalar_of_an_empty_shard_does_not_count(pool: Pool) -> None:
    for found in pool.run(2, empty_shard):
        assert found == (1, 1)


@pytest.mark.parametrize("count", [-1, float("nan")])
def test_count_that_is_no_count_is_an_input_error(count: float) -> None:
    with pytest.raises(InputError, match="wanted a count >= 0"):
        losses.AuxiliaryLoss()(torch.tensor(1.0), count=count)


def test_entry_called_count_is_an_input() -> None:
    class Counting(Loss):
        def loss(self, prediction: Tensor, count: Tensor) -> Tensor:
            return (prediction - count).abs()

    assert Counting()(torch.tensor([1.0, 2.0]), count=torch.tensor([3.0, 3.0])).item() == 1.5


@every_scalar
@pytest.mark.parametrize("option", ["log_std", "log_min", "log_max", "log_quantiles"])
def test_spread_of_batch_means_is_warned_of_once(kind: str, option: str) -> None:
    criterion, part = SCALARS[kind](**{option: True}), batches()[0]
    with pytest.warns(UserWarning, match=r"are those of batch means, because the loss gives one number for each batch"):
        criterion(*part)
    criterion(*part)
    plain = SCALARS[kind]()
    plain(*part)


@pytest.mark.parametrize("kind", [*SCALARS, "cross-entropy", "cross-entropy of weights that are 0"])
def test_counting_never_waits_for_the_device(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # autocast does not know the device "meta"
    monkeypatch.setattr("lossframe.losses.base.loss.CAREFUL_CALLS", 0)
    made = {
        "cross-entropy": lambda: nn.CrossEntropyLoss(weight=torch.ones(4)),
        "cross-entropy of weights that are 0": lambda: nn.CrossEntropyLoss(torch.zeros(4), label_smoothing=0.1),
    }
    criterion = NativeLoss(made[kind]()) if kind in made else SCALARS[kind]()
    objective = Objective({"a": criterion.to("meta"), "b": losses.AuxiliaryLoss()}, inputs={"b": {"value": "scalar"}})
    prediction, target = torch.rand(9, 4), torch.randint(0, 4, (9,)) if kind in made else torch.rand(9, 4)
    frame = dict(zip(criterion.reads, (prediction, target), strict=True)) | {"scalar": torch.ones(())}
    total = objective({name: tensor.to("meta") for name, tensor in frame.items()})  # reading a value is an error
    assert total.device.type == "meta"
