"""Draws charts as SVG: curves with bands, quantiles, distributions over time, small multiples."""

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, ClassVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, MaxNLocator

from lossframe.report.events import Curve, Floats, Histogram
from lossframe.report.scales import BUCKETS, banded, extent, scale, strip, thin
from lossframe.statistics import series

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A6D3B")
"""Okabe and Ito's colours, which people with any colour vision tell apart; brown instead of their yellow."""
COLOURS = {"train": PALETTE[0], "val": PALETTE[1], "test": PALETTE[2]}
HEAT = {"train": "Blues", "val": "Oranges", "test": "Greens"}
LINES = (":", "--", "-", "-.")
"""The line styles of quantiles, the highest quantile first."""
STYLE: dict[Any, Any] = {
    "font.size": 9, "axes.titlesize": 9, "axes.titlelocation": "left", "axes.spines.top": False,
    "axes.spines.right": False, "axes.linewidth": 0.6, "axes.edgecolor": "#888888", "axes.grid": True,
    "grid.color": "#dddddd", "grid.linewidth": 0.5, "axes.axisbelow": True, "lines.linewidth": 1.3,
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "legend.frameon": False, "legend.fontsize": 9,
    "svg.hashsalt": "lossframe", "savefig.transparent": True, "figure.constrained_layout.use": True,
}  # fmt: skip

Statistics = Mapping[str, Curve]
"""The curves of a term in one stage: `mean`, and any of `std`, `min`, `max`, `p5`, `p50`, `p95`, `p99`."""


@dataclass(frozen=True)
class Chart:
    """Drawing as a data URL, with a description."""

    kind: ClassVar[str] = "chart"
    address: str
    shows: str


@dataclass(frozen=True)
class Line:
    """Labelled curve of a panel, with colour and line style."""

    label: str
    colour: str
    curve: Curve
    style: str = "-"


def bands(tag: str, stages: Mapping[str, Statistics], end: float) -> Chart:
    """Draw the mean and bands of a term for all stages in one chart: most values on the left, all values on the right.

    The dark band is from the 5 % to the 95 % quantile, or mean +- std within [min, max]; the light one [min, max].
    """

    def draw(figure: Figure) -> None:
        most, every = figure.subplots(1, 2, width_ratios=[3, 2])
        for axes, title, whole in ((most, "mean and most of the values", False), (every, "all values", True)):
            _bands(axes, stages, whole)
            axes.set_title(title, parse_math=False)
            _over(axes, end)
        grey = [Patch(facecolor="#666666", alpha=alpha) for alpha in (0.4, 0.15)]
        inner = "5 % to 95 %" if any("p5" in curves for curves in stages.values()) else "mean ± std"
        lines, names = most.get_legend_handles_labels()
        _legend(figure, [*lines, *grey], [*names, inner, "minimum to maximum"])

    return _chart(draw, 3.1, f"{tag} over samples seen: {', '.join(stages)}")


def percent(suffix: str) -> str:
    """Return the suffix of a quantile in words.

    >>> percent("p99_9")
    '99.9 %'
    """
    return f"{suffix[1:].replace('_', '.')} %"


def quantiles(tag: str, stages: Mapping[str, Statistics], end: float) -> Chart | None:
    """Draw the quantiles of a term over time, with a panel per stage; None without quantiles."""
    highest_first = [each.suffix for each in reversed(series.SERIES) if each.from_histogram]
    styles = list(zip(highest_first, cycle(LINES), strict=False))
    panels = {
        stage: [Line(percent(n), COLOURS[stage], curves[n], style) for n, style in styles if n in curves]
        for stage, curves in stages.items()
        if len(curves["mean"].steps) > 1
    }
    panels = {stage: lines for stage, lines in panels.items() if lines}
    return multiples(panels, end, f"Quantiles of {tag}", columns=2, shared=True) if panels else None


def distribution(tag: str, stages: Mapping[str, Sequence[Histogram]], end: float) -> Chart:
    """Draw distributions over time as heat maps, with a panel per stage and one axis of values."""

    def draw(figure: Figure) -> None:
        axis, low, high = extent([one for histograms in stages.values() for one in histograms])
        edges = axis.grid(low, high, 90)
        panels = figure.subplots(1, len(stages), sharey=True, squeeze=False)[0]
        for axes, (stage, histograms) in zip(panels, stages.items(), strict=True):
            times, shares = strip(histograms, edges)
            axis.apply(axes, low, high)
            norm = mpl.colors.PowerNorm(0.4, vmin=0)
            cells = np.ma.masked_less_equal(shares, 0)
            heat = axes.pcolormesh(times, edges, cells, cmap=HEAT[stage], norm=norm, rasterized=True)
            bar = figure.colorbar(heat, ax=axes, pad=0.02, aspect=30, label="share of the values")
            bar.outline.set_visible(False)
            axes.set_title(stage)
            _over(axes, end)

    return _chart(
        draw, 2.9, f"Distribution of {tag} over samples seen, spread evenly within each bin of the histograms"
    )


def multiples(
    panels: Mapping[str, Sequence[Line]], end: float, shows: str, columns: int = 3, shared: bool = False,
    over: str = "samples seen",
) -> Chart:  # fmt: skip
    """Draw a small chart per title, with one legend; with `shared`, all charts have the same axis of values."""
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    everything = [_values(line.curve for line in lines) for lines in panels.values()]

    def draw(figure: Figure) -> None:
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        legend: dict[str, Any] = {}
        for axes, (title, lines), own in zip(grid, panels.items(), everything, strict=False):
            for line in lines:
                legend.setdefault(line.label, _line(axes, line))
            _fit(axes, np.concatenate(everything) if shared else own)
            axes.set_title(title, parse_math=False)
            _over(axes, end, over)
        for axes in grid[len(panels) :]:
            axes.remove()
        _legend(figure, list(legend.values()), list(legend))

    return _chart(draw, 0.4 + (1.9 if columns > 2 else 2.5) * rows, shows)


def overlaid(curves: Mapping[str, Curve | None]) -> list[Line]:
    """Return the lines of one panel. A name has the same style in all panels, even if some lack its curve."""
    styles = cycle([(colour, style) for style in ("-", "--", ":") for colour in PALETTE])
    named = zip(curves.items(), styles, strict=False)
    return [Line(name, colour, curve, style) for (name, curve), (colour, style) in named if curve is not None]


def _bands(axes: Axes, stages: Mapping[str, Statistics], whole: bool) -> None:
    """Draw the mean and the inner band of each stage, and with `whole` the outer band too."""
    shown: list[Floats] = []
    for stage, curves in stages.items():
        one, colour = banded(curves), COLOURS[stage]
        for edges, alpha in ((one.outer, 0.08), (one.inner, 0.18))[0 if whole else 1 :]:
            _band(axes, colour, one.steps, edges, alpha)
            shown += edges
        _line(axes, Line(stage, colour, curves["mean"]), envelope=False)
    means = _values(curves["mean"] for curves in stages.values())
    _fit(axes, np.concatenate([means, *shown]), means)


def _band(axes: Axes, colour: str, steps: Floats, edges: tuple[Floats, Floats], alpha: float) -> None:
    """Fill the area between two curves, or draw a vertical line at a single point."""
    if len(steps) == 1:
        axes.vlines(steps, *edges, color=colour, alpha=3 * alpha, lw=20 * alpha)
    else:
        axes.fill_between(steps, *edges, facecolor=colour, alpha=alpha, lw=0)
        for edge in edges:
            axes.plot(steps, edge, color=colour, alpha=4 * alpha, lw=0.7)


def _line(axes: Axes, line: Line, envelope: bool = True) -> Any:
    """Draw a curve; a thinned one has a band from the minimum to the maximum of each bucket."""
    thinned, number = thin(line.curve), len(line.curve.steps)
    if envelope and number > BUCKETS:
        axes.fill_between(thinned.steps, thinned.low, thinned.high, color=line.colour, alpha=0.15, lw=0)
    marker: dict[str, Any] = (
        {"marker": "D", "ms": 5} if number == 1 else {"marker": "o", "ms": 2.5} if number <= 40 else {}
    )
    (drawn,) = axes.plot(thinned.steps, thinned.mean, line.style, color=line.colour, label=line.label, **marker)
    return drawn


def _values(curves: Iterable[Curve]) -> Floats:
    return np.concatenate([curve.values for curve in curves])


def _fit(axes: Axes, values: Floats, typical: Floats | None = None) -> None:
    """Scale the axis of values to fit."""
    axis = scale(values, values if typical is None else typical)
    axis.apply(axes, *axis.limits(values))


def _over(axes: Axes, end: float, over: str = "samples seen") -> None:
    axes.set_xlim(0, 1.02 * max(end, 1.0))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel(over)


def _legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Draw the legend above the panels, in as few rows as the labels allow."""
    longest = max(len(label) for label in labels)
    columns = len(labels) if sum(len(label) + 8 for label in labels) < 140 else max(1, 140 // (longest + 8))
    for text in figure.legend(handles, labels, loc="outside upper left", ncols=columns).get_texts():
        text.set_parse_math(False)


def _chart(draw: Callable[[Figure], None], height: float, shows: str) -> Chart:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.6, height))
        draw(figure)
        svg = io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None}, dpi=150)
    return Chart("data:image/svg+xml;base64," + base64.b64encode(svg.getvalue()).decode(), shows)
