"""Counts values into a histogram of fixed relative error, as DDSketch does, and merges histograms.

A bucket is a 64th of an octave. The sign, the exponent and the first six bits of the fraction of a float name the
bucket, whose middle is within 1/128 of each value in the bucket. The buckets hold every normal float32: magnitudes
below 2^-126 (1.2e-38) count as 0, and those of float64 values beyond 2^128 (3.4e38) as 2^128. Two histograms merge by
adding their counts.
Source: Masson, Rim & Lee (2019), https://doi.org/10.14778/3352063.3352135.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from lossframe.saved import StateError

RELATIVE_ERROR = 1 / 128

_LOWEST, _HIGHEST = -126, 128
_FRACTION_BITS = 6
_PER_OCTAVE = 1 << _FRACTION_BITS
_HALF = (_HIGHEST - _LOWEST) * _PER_OCTAVE
SIZE = 2 * _HALF + 1
"""Number of buckets: those of negative values, zero in the middle, those of positive values."""


def count(values: Tensor, into: Tensor, counts: Tensor | None = None) -> None:
    """Count the finite values of a vector, each once or as often as `counts` says, in their buckets of `into` `[SIZE]`.

    Counts are a bool mask, or numbers. A value that stands for 0.5 values adds 0.5 to its bucket.
    """
    values = _readable(values)
    counted = values.isfinite().to(into.dtype)
    if counts is not None:
        counted *= counts if counts.dtype == torch.bool else counts.nan_to_num(0, 0, 0).clamp_min(0)
    into.scatter_add_(0, _bucket(values).long(), counted)


def count_finite(values: Tensor, into: Tensor) -> None:
    """Count the values of a vector on the CPU, which must all be finite, in their buckets of `into` `[SIZE]`."""
    into += torch.bincount(_bucket(_readable(values)), minlength=SIZE)


def _readable(values: Tensor) -> Tensor:
    """Return values whose bits `_bucket` can read: float32, or else float64."""
    return values if values.dtype in (torch.float32, torch.float64) else values.double()


def _bucket(values: Tensor) -> Tensor:
    """Return the bucket of each value, read from the bits of a float32 or float64."""
    wide = values.dtype == torch.float64
    bits = values.contiguous().view(torch.int64 if wide else torch.int32)
    bias, fraction, last = (1023, 52, 63) if wide else (127, 23, 31)
    sign = bits >> last  # 0, or -1 for negative ones: (x ^ sign) - sign is then -x
    magnitude = (bits & torch.iinfo(bits.dtype).max) >> (fraction - _FRACTION_BITS)
    magnitude = magnitude.sub_((bias + _LOWEST) * _PER_OCTAVE - 1).clamp_(0, _HALF)
    return magnitude.bitwise_xor_(sign).sub_(sign).add_(_HALF)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Holds the occupied buckets in ascending order, and the number of values in each, which may be fractional."""

    buckets: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, dense: np.ndarray, first: int = 0) -> Self:
        """Create a histogram from the counts of all buckets `[SIZE]`, or of consecutive ones from the `first`."""
        buckets = np.flatnonzero(dense != 0)  # of booleans, which takes a third of the time
        counts = dense[buckets]
        whole = counts.astype(np.int64)
        if (whole == counts).all():
            counts = whole.astype(np.min_scalar_type(whole.max(initial=0)))
        return cls((buckets + first).astype(np.uint16), counts)

    @classmethod
    def merged(cls, histograms: Iterable[Self]) -> Self:
        """Return the histogram of the values of all histograms."""
        parts = [each for each in histograms if len(each.buckets)]
        low = min((int(each.buckets[0]) for each in parts), default=0)
        dense = np.zeros(max((int(each.buckets[-1]) for each in parts), default=0) + 1 - low)
        for each in parts:
            dense[each.buckets - low] += each.counts
        return cls.of(dense, low)

    def dense(self) -> np.ndarray:
        """Return the counts of all buckets `[SIZE]`."""
        counts = np.zeros(SIZE)
        counts[self.buckets] = self.counts
        return counts

    def state(self) -> tuple[list[int], list[float]]:
        """Return the buckets and counts as lists, for a checkpoint."""
        return self.buckets.tolist(), self.counts.tolist()

    @classmethod
    def from_state(cls, state: tuple[list[int], list[float]]) -> Self:
        """Create a histogram from a `state`."""
        buckets, counts = state
        if len(buckets) != len(counts) or not all(0 <= bucket < SIZE for bucket in buckets):
            raise StateError(f"wanted a count for each bucket of a histogram, found {len(counts)} for {len(buckets)}")
        return cls(np.array(buckets, np.uint16), np.array(counts))

    @property
    def middles(self) -> np.ndarray:
        """Representative value of each bucket, within `RELATIVE_ERROR` of every value in the bucket."""
        rank = np.abs(self.buckets.astype(np.int64) - _HALF) - 1
        octave, part = np.divmod(rank, _PER_OCTAVE)
        low = np.ldexp(1 + part / _PER_OCTAVE, octave + _LOWEST)
        high = np.ldexp(1 + (part + 1) / _PER_OCTAVE, octave + _LOWEST)
        magnitude = np.where(rank < 0, 0.0, 2 * low * high / (low + high))
        return np.where(self.buckets < _HALF, -magnitude, magnitude)

    def quantile(self, q: float, low: float, high: float) -> float:
        """Return a quantile of values whose extrema are known, within `RELATIVE_ERROR` of the exact one.

        Interpolates between neighbours, as numpy does by default; the error is relative to the larger of the two.
        """
        last = np.cumsum(self.counts)
        position = max(q * (last[-1] - 1), 0.0)
        neighbours = np.searchsorted(last, [np.floor(position), np.ceil(position)], "right").clip(max=len(last) - 1)
        below, above = np.clip(self.middles[neighbours], low, high)
        return float(below + (above - below) * (position - np.floor(position)))

    def bars(self, number: int, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the upper edges of at most `number` bars from the smallest to the largest value, and their counts.

        Half of the edges are equally far apart, and half have equally many values between them.
        """
        top, middles = low + (max(high - low, abs(high) * 1e-6) or 1e-12), np.clip(self.middles, low, high)
        shares = np.linspace(0, self.counts.sum(), number // 2, endpoint=False)
        of_equal_rank = middles[np.searchsorted(np.cumsum(self.counts), shares, "right").clip(max=len(middles) - 1)]
        edges = np.unique(np.concatenate([np.linspace(low, max(top, high), number // 2 + 1), of_equal_rank]))
        return edges[1:], np.histogram(middles, edges, weights=self.counts.astype(float))[0]
