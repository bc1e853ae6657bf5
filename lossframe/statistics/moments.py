"""Computes exact moments and extrema of values, and merges them over steps and ranks in any order.

A state is one float64 vector `[count, mean, m2, min, max, nonfinite]`, where `m2 = sum((x - mean)^2)`; two states
merge by Chan, Golub & LeVeque (1983), https://doi.org/10.1080/00031305.1983.10483115.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossframe.chunks import blocks
from lossframe.statistics import histogram
from lossframe.statistics.histogram import Histogram

EMPTY = (0.0, 0.0, 0.0, float("inf"), float("-inf"), 0.0)

_PER_THREAD = 1 << 18
"""Number of values that each thread reads as float64 at a time: few enough for the cache, and enough to be worth it."""


@dataclass(slots=True)
class Moments:
    """Holds count, mean, sum of squared deviations, extrema, number of non-finite values and an optional histogram."""

    count: float = EMPTY[0]
    mean: float = EMPTY[1]
    m2: float = EMPTY[2]
    min: float = EMPTY[3]
    max: float = EMPTY[4]
    nonfinite: float = EMPTY[5]
    histogram: Histogram | None = None

    @property
    def std(self) -> float:
        """Population standard deviation; 0 for a single value."""
        return float((self.m2 / self.count) ** 0.5) if self.count else 0.0

    @property
    def numbers(self) -> tuple[float, ...]:
        """The six numbers of the state."""
        return self.count, self.mean, self.m2, self.min, self.max, self.nonfinite

    def quantile(self, q: float) -> float:
        """Return a quantile within `histogram.RELATIVE_ERROR`; NaN without a histogram or a finite value."""
        if self.histogram is None or not len(self.histogram.counts):
            return float("nan")
        return self.histogram.quantile(q, self.min, self.max)

    @classmethod
    def merged(cls, parts: Sequence["Moments"]) -> "Moments":
        """Merge the moments of one or more sets of values, as `merge` does on the device.

        The result has no histogram, and so no quantiles, unless every set with values has one.
        """
        if len(parts) == 1:
            return parts[0]
        count, nonfinite = sum([part.count for part in parts]), sum([part.nonfinite for part in parts])
        mean = sum([part.count * part.mean for part in parts]) / (count or 1.0)
        m2 = sum([part.m2 + part.count * (part.mean - mean) * (part.mean - mean) for part in parts])
        least, largest = (np.min, np.max) if nonfinite else (min, max)  # Python's may lose a NaN
        low, high = float(least([part.min for part in parts])), float(largest([part.max for part in parts]))
        counted = [part.histogram for part in parts if part.count]
        histograms = [histogram for histogram in counted if histogram is not None]
        whole = Histogram.merged(histograms) if histograms and len(histograms) == len(counted) else None
        return cls(count, mean, m2, low, high, nonfinite, whole)

    @classmethod
    def of(cls, numbers: Sequence[float], histogram: Histogram | None) -> "Moments":
        """Create moments from the six numbers of a state."""
        count, mean, m2, low, high, nonfinite = numbers
        return cls(count, mean, m2, low, high, nonfinite, histogram)

    def __reduce__(self) -> tuple[type["Moments"], tuple[Any, ...]]:
        return type(self), (*self.numbers, self.histogram)  # faster to pickle, and a drain pickles many

    def state(self) -> tuple[Any, ...]:
        """Return the moments as numbers and lists, for a checkpoint."""
        return *self.numbers, None if self.histogram is None else self.histogram.state()

    @classmethod
    def from_state(cls, state: Sequence[Any]) -> "Moments":
        """Create moments from a `state`."""
        *numbers, occupied = state
        return cls.of(numbers, None if occupied is None else Histogram.from_state(occupied))


def merge(states: Tensor) -> Tensor:
    """Merge states `[..., k, 6]` into `[..., 6]`; the empty state is neutral."""
    count, mean, m2, low, high, nonfinite = states.unbind(-1)
    total = count.sum(-1)
    center = (count * mean).sum(-1) / _divisor(total)
    spread = (m2 + count * (mean - center.unsqueeze(-1)) ** 2).sum(-1)
    return torch.stack([total, center, spread, low.amin(-1), high.amax(-1), nonfinite.sum(-1)], -1)


def _divisor(count: Tensor) -> Tensor:
    """Return a count to divide by: 1 in place of 0. Counts may be fractions."""
    return torch.where(count == 0, 1, count)


def moments(values: Tensor, counts: Tensor | None = None, into: Tensor | None = None) -> Tensor:
    """Return the state `[6]` of values with counts, and count them `into` a histogram if there is one.

    `counts`, one per value, are a bool mask or numbers: how many equal values each value stands for. On a CPU, a part
    of the values is read as float64 at a time, so that it stays in the cache.
    """
    x = values.reshape(-1)
    counts = None if counts is None else counts.reshape(-1)
    if not len(x):
        return torch.tensor(EMPTY, dtype=torch.float64, device=x.device)
    states = []
    pieces = blocks(x, _PER_THREAD)
    buffer = torch.empty(pieces[0].stop if x.is_cpu else 0, dtype=torch.float64)
    for piece in pieces:
        part, counted = x[piece], None if counts is None else counts[piece]
        if x.is_cpu and counted is not None and counted.dtype == torch.bool:
            part, counted = part[counted], None
        if x.is_cpu and counted is None:
            states.append(_on_cpu(part, buffer, into))
        else:
            states.append(moments_of_rows(part[None], None if counted is None else counted[None]))
            if into is not None:
                histogram.count(part, into, counted)
    return merge(torch.cat(states))


def moments_of_rows(x: Tensor, counts: Tensor | None = None) -> Tensor:
    """Return the states `[k, 6]` of the rows of `[k, n]`, n > 0, with counts or none, each read as float64."""
    if counts is not None:
        return _of_counted_rows(x.double(), counts)
    low, high = x.amin(1), x.amax(1)
    deviation = x.to(torch.float64, copy=True)
    center = deviation.mean(1, keepdim=True)
    deviation -= center
    one = deviation[0] if len(deviation) == 1 else None  # of a long row, `dot` takes a third of the time
    squares = torch.linalg.vecdot(deviation, deviation) if one is None else torch.dot(one, one)[None]
    nonfinite = torch.zeros_like(squares) if _finite(center) else _nonfinite(x, deviation)
    return torch.stack([torch.full_like(squares, x.shape[1]), center.squeeze(1), squares, low, high, nonfinite], 1)


def _on_cpu(x: Tensor, buffer: Tensor, into: Tensor | None) -> Tensor:
    """Return the state `[1, 6]` of a vector on the CPU, which is copied to a float64 buffer, and count its values.

    Sums of the values and of their squares give m2, unless the subtraction would cancel more than four digits.
    """
    if not len(x):
        return torch.tensor([EMPTY], dtype=torch.float64)
    wide = buffer[: len(x)].copy_(x)
    total, squares = wide.sum().item(), torch.dot(wide, wide).item()
    mean = total / len(x)
    m2 = squares - total * mean
    if not m2 > 1e-4 * squares:
        wide -= mean
        m2 = torch.dot(wide, wide).item()
    finite = math.isfinite(total)
    if into is not None:
        (histogram.count_finite if finite else histogram.count)(x, into)
    low, high = (extremum.item() for extremum in torch.aminmax(x))
    nonfinite = 0.0 if finite else (~x.isfinite()).sum().item()
    return torch.tensor([[len(x), mean, m2, low, high, nonfinite]], dtype=torch.float64)


def _finite(sums: Tensor) -> bool:
    """Return whether sums are known to be finite, as they are only if all values are: on a CPU it pays to look."""
    return sums.device.type == "cpu" and bool(np.isfinite(sums.numpy()).all())


def _nonfinite(x: Tensor, buffer: Tensor) -> Tensor:
    """Return how many values of each row are infinite or NaN: those of which x - x is not 0."""
    if not x.is_floating_point():
        return torch.zeros_like(buffer[:, 0])
    return torch.sub(x, x, out=buffer).ne_(0).sum(1)


def _of_counted_rows(x: Tensor, counts: Tensor) -> Tensor:
    """Return the states of rows with counts. A value whose count is negative or not finite is recorded as one NaN."""
    masked = counts.dtype == torch.bool
    if not masked:
        counts = counts.double()
        wrong = ~(counts >= 0) | counts.isinf()
        x, counts = torch.where(wrong, torch.nan, x), torch.where(wrong, 1, counts)

    def total(values: Tensor) -> Tensor:
        return (values if masked else values * counts).sum(1)

    present, count = counts > 0, counts.sum(1, dtype=torch.float64)
    center = total(torch.where(present, x, 0)) / _divisor(count)
    deviation = torch.where(present, x - center[:, None], 0)
    low, high = torch.where(present, x, torch.inf).amin(1), torch.where(present, x, -torch.inf).amax(1)
    nonfinite = total((present & ~x.isfinite()).double())
    return _states(count, center, total(deviation), total(deviation.square()), low, high, nonfinite)


def _states(
    count: Tensor, center: Tensor, shift: Tensor, squares: Tensor, low: Tensor, high: Tensor, nonfinite: Tensor
) -> Tensor:
    """Return states `[k, 6]` of rows whose deviations from some center sum to `shift`, their squares to `squares`."""
    shift = shift / _divisor(count)
    m2 = (squares - count * shift**2).clamp_min(0)
    return torch.stack([count, center + shift, m2, low, high, nonfinite], 1)
