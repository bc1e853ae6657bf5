"""Moments equal numpy's in long double, whatever the scale, offset, number, layout and dtype of the values."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from lossframe import Moments
from lossframe.statistics.histogram import RELATIVE_ERROR
from lossframe.statistics.recorder import Recorder

Patterns = dict[str, Callable[[int], Tensor]]

NUMBERS = (1, 63, 4096, 65_536, 65_537, 540_672)
SCALES = (1e-38, 1e-30, 1e-23, 1e-19, 1e-7, 1.0, 1e13, 1e18, 1e30, 1e38)
SMALLEST = 2.0**-126


def normal(n: int) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(n)).clamp(-3, 3)


def spiked(n: int, period: int, first: float) -> Tensor:
    """Return values of which 64 of each period are far off, where a center of the first values misleads."""
    return torch.where(torch.arange(n) % period < 64, first, normal(n) * 1e-3)


PATTERNS: Patterns = {
    "normal": normal,
    "offset": lambda n: 1 + 1e-5 * normal(n),
    "constant": lambda n: torch.full((n,), 0.1),
    "zeros and ones": lambda n: (normal(n) > 0.3).float(),
    "drift": lambda n: torch.linspace(0, 1, n),
    "one far off": lambda n: torch.where(torch.arange(n) == n // 2, 1.0, 1e-6 * normal(n)),
    "64 of 4096 far off": lambda n: spiked(n, 4096, 1.0),
    "64 of 1000 far off": lambda n: spiked(n, 1000, -1.0),
}


def recorded(values: Tensor, counts: Tensor | None = None) -> Moments:
    recorder = Recorder({"log_quantiles": True})
    recorder.accumulate("loss", values, counts)
    return recorder.moments()["loss"]


def check(seen: Moments, exact: np.ndarray) -> None:
    wide = exact.astype(np.longdouble)
    mean, std = wide.mean(), wide.std()
    tolerance = 1e-9 * float(std) + 1e-15 * abs(float(mean))  # of a constant, its own rounding
    assert (seen.count, seen.min, seen.max) == (len(exact), exact.min(), exact.max())
    assert abs(seen.mean - float(mean)) <= tolerance
    assert abs(seen.std - float(std)) <= tolerance
    ascending, levels = np.sort(exact), np.array([0.0, 0.05, 0.5, 0.99, 1.0])
    position = levels * (len(exact) - 1)
    below, above = ascending[np.floor(position).astype(int)], ascending[np.ceil(position).astype(int)]
    errors = np.abs([seen.quantile(q) for q in levels] - (below + (above - below) * (position % 1)))
    assert (errors <= RELATIVE_ERROR * np.maximum(np.abs(below), np.abs(above)) + SMALLEST).all()
    assert seen.histogram is not None
    edges, counts = seen.histogram.bars(60, seen.min, seen.max)
    assert counts.sum() == len(exact)
    assert edges[-1] >= seen.max


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("number", NUMBERS)
def test_moments_of_any_scale_are_within_1e_9_of_the_spread(pattern: str, number: int) -> None:
    for scale in SCALES if number < 60_000 else SCALES[::3]:
        values = PATTERNS[pattern](number).mul(scale)
        assert values.dtype == torch.float32
        check(recorded(values), values.double().numpy())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("inference", [False, True])
def test_moments_of_any_layout_and_dtype_are_exact(dtype: torch.dtype, inference: bool) -> None:
    layouts: list[Callable[[Tensor], Tensor]] = [
        lambda x: x, lambda x: x.view(300, -1).T, lambda x: x.view(-1, 2)[:, 1], lambda x: x.view(2, 3, -1, 5)
    ]  # fmt: skip
    for layout, masked in itertools.product(layouts, (None, 0.6)):
        with torch.inference_mode(inference):
            values = layout((100 * normal(132_000)).to(dtype))
            mask = None if masked is None else torch.rand(values.shape) < masked
            spoiled = values if mask is None or dtype == torch.int64 else torch.where(mask, values, torch.nan)
        kept = values if mask is None else values[mask]
        check(recorded(spoiled, mask), kept.double().numpy().reshape(-1))


@pytest.mark.parametrize("scale", [1e-140, 1e-60, 1e60, 1e140])
def test_moments_of_float64_are_exact_beyond_float32(scale: float) -> None:
    for number in (100, 100_000):
        values = (1 + normal(number).double()) * scale
        seen, exact = recorded(values), values.numpy()
        assert [seen.mean, seen.std] == pytest.approx([exact.mean(), exact.std()], rel=1e-12)


@pytest.mark.parametrize("number", [5, 70_000])
@pytest.mark.parametrize("odd", [torch.nan, torch.inf, -torch.inf])
def test_nonfinite_values_are_counted_and_not_in_the_histogram(number: int, odd: float) -> None:
    values = normal(number)
    values[3] = odd
    seen = recorded(values)
    assert (seen.count, seen.nonfinite) == (number, 1)
    assert seen.histogram is not None
    assert seen.histogram.counts.sum() == number - 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_bars_hold_the_largest_value_where_the_width_is_rounded(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    for scale in (1e-30, 1e-3, 1.0, 1e20):
        for _ in range(50):
            values = torch.randn(7, generator=generator, dtype=dtype) * scale
            check(recorded(values), values.double().numpy())


@pytest.mark.parametrize("value", [16777217, 16777217.0, 2**53 - 1, 0.1, -1e300])
def test_logged_number_keeps_its_digits(value: float) -> None:
    recorder = Recorder({})
    recorder.log("number", value)
    assert recorder.avg == {"number": value}
