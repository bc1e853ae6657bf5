"""Statistics equal numpy for any split of the values into steps, chunks and terms."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchmetrics import MetricCollection

from lossframe import InputError, Moments, NonFiniteError, Statistics, drain
from lossframe.losses import CenterLoss, MSELoss
from lossframe.statistics.moments import merge, moments
from lossframe.statistics.recorder import Recorder

finite = st.floats(-1e6, 1e6, allow_subnormal=False)
chunks = st.lists(st.lists(finite, max_size=5), min_size=1, max_size=6)


def expected(values: np.ndarray) -> dict[str, float]:
    return {"count": len(values), "mean": values.mean(), "std": values.std(), "min": values.min(), "max": values.max()}


@pytest.mark.parametrize("number", [1, 3])
def test_chunks_without_values_have_the_moments_of_nothing(number: int) -> None:
    states = torch.stack([moments(torch.zeros(0, dtype=torch.float64))] * number)
    assert Moments(*merge(states).tolist()) == Moments()


@given(chunks.filter(any))
def test_moments_of_any_chunks_equal_those_of_all_values(split: list[list[float]]) -> None:
    states = torch.stack([moments(torch.tensor(chunk, dtype=torch.float64)) for chunk in split])
    values = np.array([value for chunk in split for value in chunk])
    merged = Moments(*merge(states).tolist())
    scale = np.abs(values).max() + 1e-300
    assert merged.count == len(values)
    assert merged.mean == pytest.approx(values.mean(), rel=1e-9, abs=1e-9 * scale)
    assert merged.std == pytest.approx(values.std(), rel=1e-7, abs=1e-7 * scale)
    assert (merged.min, merged.max) == (values.min(), values.max())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64])
def test_statistics_equal_numpy(dtype: torch.dtype) -> None:
    statistics, recorder, seen = Statistics(), Recorder({}), []
    for step in range(150):  # more than one buffer
        values = (torch.randn(step % 7, 3) * 10).to(dtype)
        recorder.accumulate("loss", values)
        statistics.update(values)
        seen.append(values.double().numpy().reshape(-1))
    for name, value in expected(np.concatenate(seen)).items():
        assert statistics.compute()[name].item() == pytest.approx(value, rel=1e-9)
        assert getattr(recorder.moments()["loss"], name) == pytest.approx(value, rel=1e-9)


def test_small_spread_around_a_large_mean_is_exact_in_float32() -> None:
    values = (10_000 + 0.1 * torch.randn(10_000, generator=torch.Generator().manual_seed(0))).float()
    recorder = Recorder({})
    for chunk in values.split(100):
        recorder.accumulate("loss", chunk)
    assert recorder.moments()["loss"].std == pytest.approx(values.double().numpy().std(), rel=1e-9)


def test_masked_values_are_not_counted() -> None:
    recorder = Recorder({})
    recorder.accumulate("loss", torch.tensor([1.0, torch.nan, 3.0]), torch.tensor([True, False, True]))
    recorder.accumulate("loss", torch.tensor([5.0]))
    seen = recorder.moments()["loss"]
    assert (seen.count, seen.mean, seen.nonfinite) == (3, 3, 0)


def test_moments_stay_float64_in_a_half_precision_model() -> None:
    statistics = Statistics()
    statistics.update(torch.full((300,), 1.0))
    statistics.to(torch.bfloat16).update(torch.full((300,), 1.0))
    assert statistics.compute()["count"].dtype == torch.float64
    assert statistics.compute()["count"].item() == 600


def test_statistics_work_in_a_metric_collection() -> None:
    collection = MetricCollection({"loss": Statistics()})
    collection.update(torch.tensor([1.0, 2.0]))
    restored = MetricCollection({"loss": Statistics()})
    restored.load_state_dict(collection.state_dict())
    assert restored["loss"].moments.tolist() == collection["loss"].moments.tolist()
    for twin in (copy.deepcopy(collection["loss"]), pickle.loads(pickle.dumps(collection["loss"]))):
        assert twin.compute() == collection["loss"].compute()
    collection.reset()
    assert collection["loss"].moments[0].item() == 0


def test_drain_reads_and_empties_all_terms() -> None:
    recorders = {"a": Recorder({}), "b": Recorder({})}
    recorders["a"].accumulate("loss", torch.tensor([1.0, 3.0]))
    recorders["a"].accumulate("other", torch.tensor(7.0))
    first = drain(recorders)
    assert first["a"]["loss"].numbers == pytest.approx(Moments(2, 2.0, 2.0, 1.0, 3.0, 0).numbers, rel=1e-12)
    assert first["a"]["other"].mean == 7
    assert first["b"] == {}
    assert drain(recorders) == {"a": {}, "b": {}}


def test_quantiles_can_be_switched_on_later() -> None:
    criterion = MSELoss()
    criterion(torch.ones(3), torch.zeros(3))
    criterion.log_quantiles = True
    criterion.reset_avg()
    criterion(torch.ones(3), torch.zeros(3))
    assert criterion.moments()["loss"].quantile(0.5) == pytest.approx(1)


@pytest.mark.parametrize("odd", [[], [torch.nan], [torch.inf], [-torch.inf, torch.inf], [torch.nan, torch.inf]])
@pytest.mark.parametrize("first", [0, 1, 3])
def test_moments_merged_on_the_host_equal_those_of_the_device(odd: list[float], first: int) -> None:
    parts = [torch.tensor([3.0, 1.0]), torch.tensor([]), torch.tensor([-5.0]), torch.tensor([7.0, *odd])]
    states = [moments(part) for part in parts[first:] + parts[:first]]
    merged = Moments.merged([Moments.of(state.tolist(), None) for state in states])
    assert merged.numbers == pytest.approx(merge(torch.stack(states)).tolist(), rel=1e-15, nan_ok=True)


def test_terms_with_different_numbers_of_steps_are_drained_together() -> None:
    generator, seen = torch.Generator().manual_seed(0), {}
    recorders = {
        f"{steps} of {size}": Recorder({"log_quantiles": True}) for steps in (1, 3, 70) for size in (0, 1, 5, 30_000)
    }
    for name in ("plain", "loss"):
        for term, recorder in recorders.items():
            steps, size = map(int, term.split(" of "))
            values = torch.randn(steps, size, generator=generator)
            mask = values > 0.5 if size == 5 else None
            for k, row in enumerate(values):
                recorder.accumulate(name, row, None if mask is None else mask[k])
            seen[term, name] = (values if mask is None else values[mask]).double().numpy().reshape(-1)
    drained = drain(recorders)
    for (term, name), values in seen.items():
        assert (name in drained[term]) == bool(len(values))
        for what, wanted in expected(values).items() if len(values) else ():
            assert getattr(drained[term][name], what) == pytest.approx(wanted, rel=1e-9, abs=1e-8), (term, what)
        if len(values) and name == "loss":
            assert drained[term][name].histogram.counts.sum() == len(values)  # type: ignore[union-attr]


def test_statistics_are_kept_by_half() -> None:
    criterion = MSELoss()
    criterion(torch.ones(3), torch.zeros(3))
    nn.Sequential(criterion).half()
    assert criterion.avg == {"loss": 1.0}


def test_missing_buffer_of_a_loss_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "centers"\. $'):
        CenterLoss(2, 2).load_state_dict({})


def test_nonfinite_value_raises_an_error_when_statistics_are_read() -> None:
    criterion = MSELoss()
    criterion(torch.tensor([1.0, torch.nan]), torch.zeros(2))
    with pytest.raises(NonFiniteError, match="MSELoss: 1 of 2 values"):
        _ = criterion.avg
    with pytest.raises(InputError):
        criterion.summary(1, None)  # type: ignore[arg-type]
    criterion.reset_avg()
    assert criterion.avg == {}
