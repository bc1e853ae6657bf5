"""What a recorder counts, and what it does not."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from pool import Pool
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lossframe import Moments, drain
from lossframe.losses import BatchAllTripletLoss, MSELoss
from lossframe.statistics.recorder import Recorder
from lossframe.statistics.snapshot import merged


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("behind", [lambda value: value, lambda value: (3 * value).exp()])
def test_gradient_checkpointing_records_each_sample_once(reentrant: bool, behind: object) -> None:
    criterion, prediction = MSELoss(), torch.ones(8, requires_grad=True)

    def step(prediction: Tensor) -> Tensor:
        criterion.log("scale", prediction)
        return behind(criterion(prediction, torch.zeros(8)))  # type: ignore[operator]

    checkpoint(step, prediction, use_reentrant=reentrant).backward()
    assert {name: moments.count for name, moments in criterion.moments().items()} == {"scale": 8, "loss": 8}


def test_relational_loss_under_gradient_checkpointing_records_each_anchor_once() -> None:
    criterion, embeddings, labels = (
        BatchAllTripletLoss(),
        torch.randn(300, 4, requires_grad=True),
        torch.arange(300) % 3,
    )
    checkpoint(criterion, embeddings, labels, use_reentrant=True).backward()
    assert criterion.moments()["loss"].count == 300


def of_both_kinds(rank: int, ranks: int) -> tuple[dict[str, float], Moments]:
    """Record replicated values and others under one name, in another order on each rank."""
    recorder = Recorder({"log_quantiles": True})
    calls: list[Callable[[], None]] = [
        lambda: recorder.accumulate("loss", torch.tensor([10.0, 20.0]), replicated=True),
        lambda: recorder.accumulate("loss", torch.full((rank + 1,), float(rank))),
        lambda: recorder.accumulate("loss", torch.tensor([30.0]), torch.tensor([2.0]), replicated=True),
        lambda: recorder.log("loss", torch.full((2,), -1.0 - rank), count=3),
    ]
    for k in range(len(calls)):
        calls[(k + rank) % len(calls)]()
    local = recorder.avg
    return local, drain({"term": recorder})["term"]["loss"]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_name_recorded_as_replicated_and_not_counts_each_value_once(pool: Pool, ranks: int) -> None:
    own = [[float(rank)] * (rank + 1) + [-1.0 - rank] * 6 for rank in range(ranks)]
    exact = np.array([10.0, 20.0, 30.0, 30.0] + [value for values in own for value in values])
    for rank, (local, found) in enumerate(pool.run(ranks, of_both_kinds, ranks)):
        assert [found.count, found.mean, found.std, found.min, found.max] == pytest.approx(
            [len(exact), exact.mean(), exact.std(), exact.min(), exact.max()], rel=1e-12
        )
        assert found.histogram is not None
        assert found.histogram.counts.sum() == len(exact)
        assert local == pytest.approx({"loss": np.mean([10.0, 20.0, 30.0, 30.0, *own[rank]])}, rel=1e-12)


def with_histogram(values: list[float], counted: bool) -> Moments:
    recorder = Recorder({"log_quantiles": counted})
    recorder.accumulate("loss", torch.tensor(values))
    return recorder.moments()["loss"] if values else Moments()


@pytest.mark.parametrize("counted", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("absent", [None, 0, 1])
def test_quantiles_are_shown_where_all_values_were_counted(counted: tuple[bool, bool], absent: int | None) -> None:
    values: list[list[float]] = [[1.0, 2.0], [3.0, 4.0, 5.0]]
    if absent is not None:
        values[absent] = []
    parts = [{"term": {"loss": with_histogram(*pair)}} for pair in zip(values, counted, strict=True)]
    found = merged(parts)["term"]["loss"]
    assert found.count == sum(map(len, values))
    assert (found.histogram is not None) == all(c for v, c in zip(values, counted, strict=True) if v)
    if found.histogram is not None:
        assert found.histogram.counts.sum() == found.count


def with_quantiles_on_rank(rank: int, counting: int) -> Moments:
    recorder = Recorder({})
    recorder.accumulate("loss", torch.ones(3))
    recorder.log_quantiles = True  # type: ignore[assignment]
    if rank == counting:
        recorder.reset_avg()
    recorder.accumulate("loss", torch.ones(2))
    return drain({"term": recorder})["term"]["loss"]


def test_option_switched_in_mid_window_shows_no_quantiles_until_all_values_are_counted(pool: Pool) -> None:
    for found in pool.run(2, with_quantiles_on_rank, 1):
        assert (found.count, found.histogram) == (7, None)
    recorder = Recorder({})
    recorder.accumulate("loss", torch.ones(3))
    recorder.log_quantiles = True  # type: ignore[assignment]
    recorder.accumulate("loss", torch.ones(2))
    first, second = drain({"term": recorder})["term"]["loss"], Moments()
    recorder.accumulate("loss", torch.ones(4))
    second = drain({"term": recorder})["term"]["loss"]
    assert (first.count, first.histogram, second.count) == (5, None, 4)
    assert second.histogram is not None
    assert Moments.merged([first, second]).histogram is None


@pytest.mark.parametrize("steps", [1, 64, 130])
@pytest.mark.parametrize("size", [1, 200, 70_000])
def test_staged_values_are_joined_whole_or_dropped_whole(steps: int, size: int) -> None:
    recorder, wanted = Recorder({"log_quantiles": True}), Recorder({"log_quantiles": True})
    for step in range(min(steps, 3 * 70_000 // size)):
        values = torch.randn(size, generator=torch.Generator().manual_seed(step))
        recorder.stage(True)
        recorder.accumulate("loss", values)
        recorder.log("extra", 1.0, count=2)
        recorder.stage(False)
        if step % 3 == 1:
            recorder.staged.clear()
        else:
            recorder.join()
            wanted.accumulate("loss", values)
            wanted.log("extra", 1.0, count=2)
    assert {name: m.count for name, m in recorder.moments().items()} == {
        name: m.count for name, m in wanted.moments().items()
    }
    found, exact = recorder.moments()["loss"], wanted.moments()["loss"]
    assert found.numbers == pytest.approx(exact.numbers, rel=1e-12, abs=1e-15)
    assert str(found.histogram) == str(exact.histogram)


def test_snapshot_leaves_staged_values_and_avg_counts_them() -> None:
    recorder = Recorder({})
    recorder.log("x", 1.0)
    recorder.stage(True)
    recorder.log("x", 3.0)
    assert recorder.avg == {"x": 2.0}
    assert drain({"term": recorder})["term"]["x"].mean == 1
    assert recorder.avg == {"x": 3.0}
    recorder.join()
    assert drain({"term": recorder})["term"]["x"].mean == 3
    recorder.log("x", 5.0)
    recorder.reset_avg()
    assert recorder.avg == {}
