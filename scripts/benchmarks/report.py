"""What is made of the figures: a Markdown table with the ratios first, JSON, a picture."""

import datetime
import json
import math
import operator
import platform
import statistics
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from benchmarks.cases import Figure, Setting

_RATIOS = ("time, theirs / ours", "memory, theirs / ours")
_COLUMNS = ("case", "size", "against", *_RATIOS, "our time", "theirs", "our memory", "theirs")
HEAD = f"| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}"
"""The first two lines of a table of `rows`."""
_ACROSS = 4


def machine(setting: Setting) -> str:
    """Say when, with what and on what the figures were measured."""
    name = torch.cuda.get_device_name() if setting.device == "cuda" else _processor()
    today = datetime.datetime.now(datetime.UTC).date()
    how = f"{setting.threads} threads, medians of {setting.repeats} rounds or more"
    return f"{today}, torch {torch.__version__}, {name}, {how}"


def rows(case: list[Figure]) -> str:
    """Return a row for each contestant of a case that ours, the first, was measured against."""
    ours, *others = case
    lines = []
    for theirs in others or [ours]:
        against = "-" if theirs is ours else theirs.contestant
        times = list(map(operator.truediv, theirs.rounds, ours.rounds))
        time = _ratio(statistics.median(times)) if others and times else "-"
        memory = _ratio(theirs.megabytes / ours.megabytes) if theirs.megabytes and ours.megabytes and others else "-"
        absolute = [_time(ours), _time(theirs), _memory(ours), _memory(theirs)]
        lines.append("| " + " | ".join([ours.case, f"{ours.size:,}", against, time, memory, *absolute]) + " |")
    return "\n".join(lines)


def exponents(figures: list[Figure]) -> str:
    """Return for each case at three sizes or more how our time and memory grow: as size to the power of what."""
    lines = ["| case | sizes | time ~ size^ | memory ~ size^ |", "|---|---|---|---|"]
    for case, group in groupby(figures, key=lambda figure: figure.case):
        first, *rest = group
        ours = [figure for figure in [first, *rest] if figure.contestant == first.contestant and not figure.failure]
        if len(ours) >= 3:
            sizes = [figure.size for figure in ours]
            time, memory = (_slope(sizes, [getattr(f, of) for f in ours]) for of in ("seconds", "megabytes"))
            lines.append(f"| {case} | {sizes[0]:,} to {sizes[-1]:,} | {time:.2f} | {memory:.2f} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def save(figures: list[Figure], setting: Setting, path: Path) -> None:
    """Write everything as JSON."""
    content = {"setting": machine(setting), "figures": [asdict(figure) for figure in figures]}
    path.write_text(json.dumps(content, indent=1) + "\n")


def plot(figures: list[Figure], path: Path) -> None:
    """Draw time and memory over the size, four cases a row."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    cases = list(dict.fromkeys(figure.case for figure in figures))
    colours = {name: f"C{k}" for k, name in enumerate(dict.fromkeys(figure.contestant for figure in figures))}
    across = min(len(cases), _ACROSS)
    down = 2 * math.ceil(len(cases) / across)
    picture, axes = pyplot.subplots(down, across, figsize=(4 * across, 2.6 * down), squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.set_visible(False)  # until there is something in it
    drawn: dict[str, Any] = {}
    for k, case in enumerate(cases):
        of_case = [figure for figure in figures if figure.case == case]
        for below, (field, label) in enumerate([("seconds", "time / s"), ("megabytes", "memory / MB")]):
            axis = axes[k // across * 2 + below, k % across]
            axis.set(xlabel="size" if below else None, ylabel=label, title=None if below else case)
            drawn |= _panel(axis, of_case, field, colours)
    picture.legend(drawn.values(), drawn.keys(), loc="outside upper center", ncols=len(drawn))
    pyplot.savefig(path, dpi=80)


def _panel(axis: Any, figures: list[Figure], field: str, colours: dict[str, str]) -> dict[str, Any]:
    """Draw one field of one case over the size, and return the line of each contestant."""
    from matplotlib.ticker import NullLocator

    drawn = {}
    axis.set_visible(True)
    for name, colour in colours.items():
        line = [figure for figure in figures if figure.contestant == name and not figure.failure]
        if line:
            values = [getattr(figure, field) for figure in line]
            (drawn[name],) = axis.loglog([figure.size for figure in line], values, color=colour, marker="o")
    sizes = sorted({figure.size for figure in figures})
    axis.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize="small")
    axis.xaxis.set_minor_locator(NullLocator())
    axis.grid(alpha=0.3)
    return drawn


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


def _ratio(value: float) -> str:
    return f"**{value:.3g}**"


def _time(figure: Figure) -> str:
    return figure.failure or "-" if figure.seconds is None else f"{1e3 * figure.seconds:.3g} ms"


def _memory(figure: Figure) -> str:
    return "-" if figure.megabytes is None else f"{figure.megabytes:.3g} MB"


def _slope(sizes: list[int], values: list[float]) -> float:
    logarithms = [math.log(max(value, 1e-6)) for value in values]
    return statistics.linear_regression([math.log(size) for size in sizes], logarithms).slope
