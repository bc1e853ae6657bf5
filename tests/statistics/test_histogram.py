"""Quantiles are within the stated error of numpy's, over ranks and through a checkpoint."""

import numpy as np
import pytest
import torch
from pool import Pool

from lossframe import Moments, drain
from lossframe.statistics.histogram import RELATIVE_ERROR
from lossframe.statistics.recorder import Recorder

SHAPES = {
    "normal": lambda generator, n: generator.normal(2.0, 1.0, n),
    "lognormal": lambda generator, n: generator.lognormal(0.0, 2.0, n),
    "bimodal": lambda generator, n: np.where(
        generator.random(n) < 0.3, generator.normal(-4, 0.5, n), generator.normal(9, 1, n)
    ),
    "constant": lambda generator, n: np.full(n, 0.3),
}


def values_of(shape: str, rank: int) -> np.ndarray:
    return SHAPES[shape](np.random.default_rng(rank), [500_000, 499_999, 1][rank])


def drained(rank: int, shape: str) -> Moments:
    recorder = Recorder({"log_quantiles": True})
    for part in torch.from_numpy(values_of(shape, rank)).split(70_001):
        recorder.accumulate("loss", part)
    return drain({"term": recorder})["term"]["loss"]


@pytest.mark.parametrize("shape", SHAPES)
def test_quantiles_of_three_ranks_are_within_the_stated_error_of_numpys(pool: Pool, shape: str) -> None:
    everything = np.concatenate([values_of(shape, rank) for rank in range(3)])
    for moments in pool.run(3, drained, shape):
        assert moments.histogram is not None
        assert moments.histogram.counts.sum() == moments.count == len(everything)
        for q in [0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999, 1]:
            assert moments.quantile(q) == pytest.approx(np.quantile(everything, q), rel=RELATIVE_ERROR)
        restored = Moments.from_state(moments.state())
        assert restored.numbers == moments.numbers
        assert restored.quantile(0.9) == moments.quantile(0.9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64])
def test_every_value_counts_once_whatever_its_size_sign_and_dtype(dtype: torch.dtype) -> None:
    values = torch.tensor([0.0, -0.0, 1e-30, -3e-5, 2.0, 2.0, -7.0, 1e12]).to(dtype)
    recorder = Recorder({"log_quantiles": True})
    recorder.accumulate("loss", values)
    seen = recorder.moments()["loss"]
    assert seen.histogram is not None
    assert seen.histogram.counts.sum() == len(values)
    exact = np.sort(values.double().numpy())
    for k, value in enumerate(exact):
        assert seen.quantile(k / (len(exact) - 1)) == pytest.approx(value, rel=RELATIVE_ERROR, abs=1e-19)


def test_masked_and_non_finite_values_are_not_in_the_histogram() -> None:
    recorder = Recorder({"log_quantiles": True})
    recorder.accumulate("loss", torch.tensor([1.0, torch.nan, 5.0, torch.inf]), torch.tensor([True, True, False, True]))
    seen = recorder.moments()["loss"]
    assert seen.histogram is not None
    assert seen.histogram.counts.sum() == 1
    assert (seen.count, seen.nonfinite) == (3, 2)


@pytest.mark.parametrize("n", [65_536, 65_537, 300_000])
@pytest.mark.parametrize("masked", [False, True])
def test_large_float32_values_give_float64_moments(n: int, masked: bool) -> None:
    values = 1e4 + 0.1 * torch.randn(n, generator=torch.Generator().manual_seed(0))
    mask = torch.rand(n, generator=torch.Generator().manual_seed(1)) < 0.5 if masked else None
    recorder = Recorder({"log_quantiles": True})
    recorder.accumulate("loss", values, mask)
    exact = values.double().numpy() if mask is None else values[mask].double().numpy()
    seen = recorder.moments()["loss"]
    assert seen.count == len(exact)
    assert [seen.mean, seen.std, seen.min, seen.max] == pytest.approx(
        [exact.mean(), exact.std(), exact.min(), exact.max()], rel=1e-6
    )


def test_bars_of_a_histogram_hold_every_value() -> None:
    recorder = Recorder({"log_quantiles": True})
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    recorder.accumulate("loss", values)
    seen = recorder.moments()["loss"]
    assert seen.histogram is not None
    edges, counts = seen.histogram.bars(60, seen.min, seen.max)
    assert 40 < len(edges) <= 60
    assert counts.sum() == 1000
    assert edges[-1] >= seen.max
    expected = np.histogram(values.numpy(), [seen.min, *edges])[0]
    assert np.abs(counts - expected).max() <= 20  # values near an edge may fall on its other side
    assert counts.max() <= 60  # also where most values are, the bars show where


def test_constant_values_are_one_bar() -> None:
    recorder = Recorder({"log_quantiles": True})
    recorder.accumulate("loss", torch.full((7,), 0.3))
    seen = recorder.moments()["loss"]
    assert seen.histogram is not None
    edges, counts = seen.histogram.bars(60, seen.min, seen.max)
    assert counts.max() == counts.sum() == 7
    assert (np.diff(edges) > 0).all()
