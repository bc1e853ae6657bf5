"""Reduces curves and histograms to the resolution of a page, and chooses their axes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from lossframe.report.events import Curve, Floats, Histogram

BUCKETS = 1000
"""Largest number of points of a drawn curve, about the width of a chart in pixels."""


@dataclass(frozen=True)
class Thinned:
    """Curve reduced to at most `BUCKETS` buckets of consecutive points, with mean and extremes of each."""

    steps: Floats
    mean: Floats
    low: Floats
    high: Floats


def thin(curve: Curve) -> Thinned:
    """Reduce a curve to buckets; a curve of at most `BUCKETS` points is unchanged.

    >>> thin(Curve(np.arange(3.0), np.array([1.0, 5.0, 3.0]))).mean
    array([1., 5., 3.])
    """
    number = len(curve.steps)
    starts = np.unique(np.linspace(0, number, min(number, BUCKETS), endpoint=False).astype(int))
    sizes = np.diff([*starts, number])
    return Thinned(
        steps=np.add.reduceat(curve.steps, starts) / sizes,
        mean=np.add.reduceat(curve.values, starts) / sizes,
        low=np.minimum.reduceat(curve.values, starts),
        high=np.maximum.reduceat(curve.values, starts),
    )


@dataclass(frozen=True)
class Banded:
    """Curve of means with the edges of two bands, each [N]: most values in `inner`, all values in `outer`."""

    steps: Floats
    mean: Floats
    inner: tuple[Floats, Floats]
    outer: tuple[Floats, Floats]


def banded(curves: Mapping[str, Curve]) -> Banded:
    """Return the bands around `mean`: [p5, p95], or else mean +- std within [min, max]; and [min, max].

    The band of a missing statistic has no width.
    """
    thinned = {name: thin(curve) for name, curve in curves.items()}
    mean = thinned["mean"]

    def at(name: str, part: str) -> Floats:
        other = thinned.get(name, mean)
        return np.asarray(np.interp(mean.steps, other.steps, getattr(other, part)))

    bottom, top = at("min", "low"), at("max", "high")
    if "p5" in curves and "p95" in curves:
        return Banded(mean.steps, mean.mean, (at("p5", "mean"), at("p95", "mean")), (bottom, top))
    spread = at("std", "mean") if "std" in curves else np.zeros_like(mean.mean)
    low, high = mean.mean - spread, mean.mean + spread
    low, high = np.maximum(low, bottom) if "min" in curves else low, np.minimum(high, top) if "max" in curves else high
    return Banded(mean.steps, mean.mean, (low, high), (bottom, top))


@dataclass(frozen=True)
class Scale:
    """Axis of values: linear, logarithmic, or linear within `width` of zero and logarithmic beyond (asinh)."""

    name: str
    width: float = 1.0

    def apply(self, axes: Axes, low: float, high: float) -> None:
        """Apply this scale to `axes`, from `low` to `high`."""
        axes.set_yscale(self.name, **({"linear_width": self.width} if self.name == "asinh" else {}))
        axes.set_ylim(low, high)
        if self.name == "asinh":
            axes.set_yticks(self._decades(low, high), minor=False)
            axes.yaxis.set_major_formatter("{x:g}")

    def limits(self, values: Floats) -> tuple[float, float]:
        """Return the ends of an axis that shows `values` [N] with a margin of 4 %."""
        height = self._height(values[np.isfinite(values)])
        low, high = (height.min(), height.max()) if len(height) else (0.0, 1.0)
        margin = 0.04 * (high - low) or 0.5 * max(abs(low), 1e-3)
        ends = self._value(np.array([low - margin, high + margin]))
        return float(ends[0]), float(ends[1])

    def grid(self, low: float, high: float, cells: int) -> Floats:
        """Return the edges [cells + 1] of cells that look equally high."""
        bottom, top = self._height(np.array([low, high]))
        return self._value(np.linspace(bottom, top, cells + 1))

    def _decades(self, low: float, high: float) -> list[float]:
        """Return ticks at zero and at powers of ten, at least a twelfth of the axis apart."""
        first, last = math.floor(math.log10(self.width)), math.ceil(math.log10(max(-low, high)))
        ticks = [0.0]
        for power in range(first, last + 1):
            for tick in (10.0**power, -(10.0**power)):
                heights = self._height(np.array([low, high, tick, *ticks]))
                if low <= tick <= high and np.abs(heights[2] - heights[3:]).min() * 12 >= heights[1] - heights[0]:
                    ticks.append(tick)
        return ticks

    def _height(self, values: Floats) -> Floats:
        """Return the positions of values on the axis, up to a linear map."""
        if self.name == "log":
            return np.asarray(np.log(values))
        return np.asarray(np.arcsinh(values / self.width)) if self.name == "asinh" else values

    def _value(self, heights: Floats) -> Floats:
        """Return the values at these positions; the inverse of `_height`."""
        if self.name == "log":
            return np.asarray(np.exp(heights))
        return np.asarray(self.width * np.sinh(heights)) if self.name == "asinh" else heights


def scale(values: Floats, typical: Floats) -> Scale:
    """Choose the axis for `values` [N], most of which have the size of `typical` [M].

    Positive values that span decades get a logarithmic axis. If some values are zero, negative or a hundred times
    smaller than typical ones, small values are on a linear part (asinh).

    >>> [scale(np.array(v), np.array([1.0])).name for v in ([1.0, 2.0], [0.1, 90.0], [0.0, 90.0])]
    ['linear', 'log', 'asinh']
    """
    values, sizes = values[np.isfinite(values)], np.abs(typical[np.isfinite(typical)])
    low, high = (values.min(), values.max()) if len(values) else (0.0, 0.0)
    small = float(np.quantile(sizes, 0.1)) if len(sizes) else 0.0
    if low > 0 and low * 30 <= high and low * 100 > small:
        return Scale("log")
    return Scale("asinh", small) if 0 < 30 * small <= max(-low, high) else Scale("linear")


def extent(histograms: Sequence[Histogram]) -> tuple[Scale, float, float]:
    """Return the axis for all values of some distributions, and its ends."""
    ends = np.concatenate([side[one.counts > 0] for one in histograms for side in (one.left, one.right)])
    axis = scale(ends, np.array([_median(one) for one in histograms]))
    return axis, *axis.limits(ends)


def strip(histograms: Sequence[Histogram], edges: Floats, columns: int = 240) -> tuple[Floats, Floats]:
    """Return a heat map of distributions over time: column edges [C + 1] and shares [len(edges) - 1, C].

    A column reaches back to the previous one. More than `columns` histograms are added up in consecutive groups. The
    counts of a bin are spread evenly.
    """
    groups = np.array_split(np.arange(len(histograms)), min(len(histograms), columns))
    counts = np.stack([np.sum([_rebinned(histograms[i], edges) for i in group], axis=0) for group in groups])
    ends = np.array([histograms[group[-1]].step for group in groups])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    return np.array([min(0.0, ends[0] - 1), *ends]), shares.T


def _median(histogram: Histogram) -> float:
    passed = np.cumsum(histogram.counts)
    middle = int(np.searchsorted(passed, passed[-1] / 2))
    return float(histogram.left[middle] + histogram.right[middle]) / 2


def _rebinned(histogram: Histogram, edges: Floats) -> Floats:
    """Return the number of values between neighbouring edges; a bin without a width falls into one cell."""
    wide = histogram.right > histogram.left
    points = np.histogram(histogram.left[~wide], edges, weights=histogram.counts[~wide])[0]
    left, right = histogram.left[wide], histogram.right[wide]
    below = np.clip((edges[:, None] - left) / (right - left), 0, 1) @ histogram.counts[wide]
    return np.asarray(points + np.diff(below))
