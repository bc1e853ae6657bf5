"""Summarises the runs of a sweep in a table: the score of each configuration over its seeds, best first."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

from lossframe.loggers import tags
from lossframe.report.runs import Run, find_jobs, read_run, run_names

NOTHING = "-"
SEED = "seed"
"""The key that makes no configuration of its own: runs that differ in it alone are repetitions."""


@dataclass(frozen=True)
class Summary:
    """Table with a row per configuration, and lines: on runs that did not finish, and on values that do not compare."""

    head: list[str]
    rows: list[list[str]]
    notes: list[str]
    keys: int  # the first columns, which hold texts; the others hold numbers


def summary(folders: Sequence[Path]) -> Summary | None:
    """Return the summary of all runs at or below `folders`; None if fewer than two runs record how they were started.

    Reads the overrides, configuration and final metrics of each run, but no event files.
    """
    found = find_jobs(folders)
    if len(found) < 2:
        return None
    runs = [read_run(folder, name, curves=False) for folder, name in zip(found, run_names(found), strict=True)]
    typed = [_typed(run) for run in runs]
    keys = [key for key in _distinct(typed) if key != SEED]
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run, values in zip(runs, typed, strict=True):
        groups.setdefault(tuple(values.get(key, NOTHING) for key in keys), []).append(run)
    monitors = list(dict.fromkeys(monitor for run in runs if (monitor := _monitor(run))))
    ordered = sorted(groups.items(), key=lambda group: _rank(group[1], monitors))
    shown = [tag for metric, _ in monitors for tag in (metric, f"test/{metric.partition('/')[2]}")]
    head = [*keys, *(f"{tag} ({dict(monitors)[tag]})" if tag in dict(monitors) else tag for tag in shown), "runs"]
    rows = [[*values, *(_spread(members, tag) for tag in shown), _count(members)] for values, members in ordered]
    notes = [f"{run.name}: {run.ending}" for run in runs if run.ending]
    notes += [note for metric, _ in monitors if (note := _of_objectives(metric, keys))]
    return Summary(head, rows, notes, len(keys))


def _of_objectives(metric: str, keys: Iterable[str]) -> str:
    """Return a line that says so, if a metric is a loss, and keys that change losses differ between runs.

    >>> _of_objectives("val/loss/total", ["weights.center", "optimizer.lr"])
    'val/loss/total: runs of another weights.center have other losses, whose values do not compare'
    >>> _of_objectives("val/accuracy", ["loss"])
    ''
    """
    changing = [key for key in keys if re.match(r"(loss|weights|inputs|balance|schedule)\b", key)]
    if not changing or not metric.partition("/")[2].startswith(f"{tags.LOSS}/"):
        return ""
    return f"{metric}: runs of another {' or '.join(changing)} have other losses, whose values do not compare"


def show(found: Summary) -> None:
    """Print a summary on the terminal; without a terminal as wide as need be."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(found.head):
        table.add_column(name, justify="left" if index < found.keys else "right", overflow="fold")
    for row in found.rows:
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=10_000)
    console.print(table)
    for note in found.notes:
        console.print(note, soft_wrap=True)


def _typed(run: Run) -> dict[str, str]:
    """Return the overrides of a run, key -> value."""
    pairs = (override.lstrip("+").partition("=") for override in run.overrides)
    return {key: value for key, _, value in pairs}


def _distinct(typed: Iterable[Mapping[str, str]]) -> list[str]:
    """Return the keys that are not the same in all runs."""
    every = list(typed)
    known = dict.fromkeys(key for one in every for key in one)
    return [key for key in known if len({one.get(key) for one in every}) > 1]


def _monitor(run: Run) -> tuple[str, str] | None:
    """Return the validation metric that chose a run's checkpoint, and its mode."""
    found: Any = run.config.get("checkpoint_monitor")
    if not isinstance(found, Mapping) or not found.get("metric"):
        return None
    return str(found["metric"]), str(found.get("mode"))


def _rank(members: Sequence[Run], monitors: Sequence[tuple[str, str]]) -> tuple[int, float]:
    """Return the sort key of a configuration: by its metric, then by its mean score; without a score it is last."""
    for index, (metric, mode) in enumerate(monitors):
        if any(_monitor(run) == (metric, mode) for run in members) and (scores := _scores(members, metric)):
            mean = fmean(scores)
            return index, math.inf if math.isnan(mean) else -mean if mode == "max" else mean
    return len(monitors), 0.0


def _scores(members: Iterable[Run], tag: str) -> list[float]:
    return [run.metrics[tag] for run in members if isinstance(run.metrics.get(tag), float)]


def _spread(members: Sequence[Run], tag: str) -> str:
    """Describe the mean of a metric over runs, and with several runs its standard deviation."""
    scores = _scores(members, tag)
    if not scores:
        return NOTHING
    return f"{fmean(scores):.4g}" + (f" +- {stdev(scores):.2g}" if len(scores) > 1 else "")


def _count(members: Sequence[Run]) -> str:
    tested = sum(bool(run.metrics) for run in members)
    return str(tested) if tested == len(members) else f"{tested} of {len(members)}"
