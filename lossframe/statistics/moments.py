"""Computes exact moments and extrema of values, and merges them over steps and ranks in any order.

A state is one float64 vector `[count, mean, m2, min, max, nonfinite]`, where `m2 = sum((x - mean)^2)`; two states
merge by Chan, Golub & LeVeque (1983), https://doi.org/10.1080/00031305.1983.10483115.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossframe.statistics import histogram
from lossframe.statistics.histogram import Histogram

EMPTY = (0.0, 0.0, 0.0, float("inf"), float("-inf"), 0.0)

FEW = 1 << 16
"""Largest number of values that is read as float64 in one piece."""
_ROW = 4096
_ROWS_PER_THREAD = 128
"""Enough rows that threads seldom wait for one another, and few enough for the cache that they share."""
_CENTERING = 64


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
        """Merge the moments of one or more sets of values, as `merge` does on the device."""
        if len(parts) == 1:
            return parts[0]
        count, nonfinite = sum([part.count for part in parts]), sum([part.nonfinite for part in parts])
        mean = sum([part.count * part.mean for part in parts]) / (count or 1.0)
        m2 = sum([part.m2 + part.count * (part.mean - mean) * (part.mean - mean) for part in parts])
        least, largest = (np.min, np.max) if nonfinite else (min, max)  # Python's may lose a NaN
        low, high = float(least([part.min for part in parts])), float(largest([part.max for part in parts]))
        histograms = [part.histogram for part in parts if part.histogram is not None]
        return cls(count, mean, m2, low, high, nonfinite, Histogram.merged(histograms) if histograms else None)

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

    `counts`, one per value, are a bool mask or numbers: how many equal values each value stands for.
    Up to `FEW` values are read as float64. More values are read in their own precision, in rows of 4,096, each centred
    on the mean of its first 64 values, and a few rows at a time so that they stay in the cache.
    """
    values = values.reshape(-1) if values.dtype in (torch.float32, torch.float64) else values.double().reshape(-1)
    counts = None if counts is None else counts.reshape(-1)
    states: list[Tensor] = []
    buffer: Tensor | None = None
    raw: list[tuple[Tensor, ...]] = []
    for x, counted in _rows(values, counts):
        finite = False
        if counted is None and x.dtype == torch.float32:
            buffer = torch.empty_like(x) if buffer is None else buffer
            rows, finite = _of_rows(x, buffer[: len(x)])
            raw.append(rows)
        else:
            states.append(moments_of_rows(x, counted))
        if into is not None and finite:
            histogram.count_finite(x.reshape(-1), into)
        elif into is not None:
            histogram.count(x.reshape(-1), None if counted is None else counted.reshape(-1), into)
    if raw:
        states.append(_states(*(torch.cat(column).double() for column in zip(*raw, strict=True))))
    if not states:
        return torch.tensor(EMPTY, dtype=torch.float64, device=values.device)
    return states[0][0] if len(states) == len(states[0]) == 1 else merge(torch.cat(states))


def moments_of_rows(x: Tensor, counts: Tensor | None = None) -> Tensor:
    """Return the states `[k, 6]` of the rows of `[k, n]`, n > 0, with counts or none, each read as float64."""
    if counts is not None:
        return _of_counted_rows(x.double(), counts.double())
    low, high = x.amin(1), x.amax(1)
    deviation = x.to(torch.float64, copy=True)
    center = deviation.mean(1, keepdim=True)
    deviation -= center
    squares = torch.linalg.vecdot(deviation, deviation)
    nonfinite = torch.zeros_like(squares) if _finite(center) else _nonfinite(x, deviation)
    return torch.stack([torch.full_like(squares, x.shape[1]), center.squeeze(1), squares, low, high, nonfinite], 1)


def _rows(x: Tensor, mask: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    long = len(x) // _ROW * _ROW if len(x) > FEW else 0
    step = _ROW * _ROWS_PER_THREAD * torch.get_num_threads() if x.device.type == "cpu" else max(long, 1)
    for start in range(0, long, step):
        piece = slice(start, min(start + step, long))
        yield x[piece].view(-1, _ROW), None if mask is None else mask[piece].view(-1, _ROW)
    if long < len(x):
        yield x[None, long:].double(), None if mask is None else mask[None, long:]


def _of_rows(x: Tensor, buffer: Tensor) -> tuple[tuple[Tensor, ...], bool]:
    """Return what `_states` takes of rows of float32, and whether all values are known to be finite.

    A row is centred on the mean of some of its values: nearly as good as its own, and a pass less.
    """
    center = x[:, :_CENTERING].mean(1, keepdim=True)
    deviation = torch.sub(x, center, out=buffer)
    shift, norm = deviation.sum(1), torch.linalg.vector_norm(deviation, dim=1)
    low, high = (extremum.expand_as(shift) for extremum in torch.aminmax(x))  # of all rows: that is one pass
    finite = _finite(shift)
    nonfinite = torch.zeros_like(shift) if finite else _nonfinite(x, buffer)
    count, squares = torch.full_like(shift, x.shape[1]), norm.double().square_()
    return (count, center.squeeze(1), shift, squares, low, high, nonfinite), finite


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
    wrong = ~(counts >= 0) | counts.isinf()
    x, counts = torch.where(wrong, torch.nan, x), torch.where(wrong, 1, counts)
    present, count = counts > 0, counts.sum(1)
    center = (torch.where(present, x, 0) * counts).sum(1) / _divisor(count)
    deviation = torch.where(present, x - center[:, None], 0)
    shift, squares = (counts * deviation).sum(1), (counts * deviation.square()).sum(1)
    low, high = torch.where(present, x, torch.inf).amin(1), torch.where(present, x, -torch.inf).amax(1)
    return _states(count, center, shift, squares, low, high, (counts * ~x.isfinite()).sum(1))


def _states(
    count: Tensor, center: Tensor, shift: Tensor, squares: Tensor, low: Tensor, high: Tensor, nonfinite: Tensor
) -> Tensor:
    """Return states `[k, 6]` of rows whose deviations from some center sum to `shift`, their squares to `squares`."""
    shift = shift / _divisor(count)
    m2 = (squares - count * shift**2).clamp_min(0)
    return torch.stack([count, center + shift, m2, low, high, nonfinite], 1)
