"""Merges the points that the journals of all ranks demand, and compares them with those that were written."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from monitor_oracle import Calls, Check, Point

from lossframe.statistics.histogram import RELATIVE_ERROR

Observed = tuple[str, int, dict[str, float]]
"""Stage, x and scalars of a point that was written."""
QUANTILES = {"p5": 0.05, "p50": 0.5, "p95": 0.95, "p99": 0.99}
TOLERANCE = 1e-9


def of_all_ranks(ranks: Sequence[Point]) -> Point:
    """Merge the points of the ranks."""
    assert len({point.stage for point in ranks}) == 1, "the journals of the ranks differ"
    return replace(ranks[0], samples=sum(p.samples for p in ranks), calls=merged([p.calls for p in ranks]))


def merged(ranks: Sequence[Calls]) -> Calls:
    """Return the values of all ranks by tag, in one list; a relational loss takes those of one call together."""
    found: Calls = {}
    for tag in dict.fromkeys(tag for calls in ranks for tag in calls):
        each = [calls.get(tag, []) for calls in ranks]
        if tag.split("/dataloader", maxsplit=1)[0] == "centred":
            together = [np.concatenate(call) for call in zip(*each, strict=True)]
            values = [value for x in together if len(x) for value in np.square(x - x.mean()).tolist()]
        else:
            values = [value for calls in each for call in calls for value in call]
        if values:
            found[tag] = [values]
    return found


def bounds(values: Sequence[float], quantiles: bool) -> dict[str, tuple[float, float]]:
    """Return the lowest and highest right number for each statistic of values, by suffix."""
    x = np.array(values)
    slack = TOLERANCE * float(max(np.ptp(x), abs(x.mean())))
    exact = {"": float(x.mean()), "std": float(x.std()), "min": float(x.min()), "max": float(x.max())}
    found = {suffix: (value - slack, value + slack) for suffix, value in exact.items()}
    for suffix, q in QUANTILES.items() if quantiles else ():
        low, high = (float(np.quantile(x, q, method=method)) for method in ("lower", "higher"))
        found[suffix] = (low - RELATIVE_ERROR * abs(low) - slack, high + RELATIVE_ERROR * abs(high) + slack)
    return found


def expected(point: Point, quantiles: bool) -> dict[str, tuple[float, float]]:
    """Return the bounds of each scalar of a point, by tag."""
    found = {}
    for tag, (values,) in point.calls.items():
        name, loader = re.fullmatch(r"(.*?)(/dataloader_idx_\d+)?", tag).groups(default="")  # type: ignore[union-attr]
        for suffix, limits in bounds(values, quantiles and "/" not in name).items():
            found[f"{name}{'_' * bool(suffix)}{suffix}{loader}"] = limits
    return found


def difference(point: Point, seen: Observed, quantiles: bool) -> str:
    """Return how an observed point differs from the expected one, or an empty text."""
    wanted, found = expected(point, quantiles), {_without_loader_of_whole(tag): v for tag, v in seen[2].items()}
    if point.samples != seen[1]:
        return f"x is {seen[1]} for {point.samples}"
    if set(wanted) != set(found):
        return f"missing {sorted(set(wanted) - set(found))}, surplus {sorted(set(found) - set(wanted))}"
    wrong = [tag for tag, (low, high) in wanted.items() if not low <= found[tag] <= high]
    return ", ".join(f"{tag} is {found[tag]!r} for {sum(wanted[tag]) / 2!r}" for tag in wrong[:4])


def compare(points: Sequence[Point], observed: Sequence[Observed], quantiles: bool) -> list[str]:
    """Return the differences between expected and observed points, at most one for each stage."""
    problems = []
    for stage in ("train", "val", "test", "predict"):
        wanted = [p for p in points if p.stage == stage and p.calls]
        found = [o for o in observed if o[0] == stage]
        number = 0
        for point in wanted:
            seen: Any = found[number] if number < len(found) else None
            unlike = difference(point, seen, quantiles) if seen else "there is none"
            number += not (unlike and point.optional)
            if unlike and not point.optional:
                problems.append(f"{stage} point {number} of {len(wanted)} at {point.samples}: {unlike}")
                break
        else:
            if number < len(found):
                problems.append(f"{stage}: surplus points {found[number:]}")
    return problems


def judge(check: Check, ranks: Sequence[Check]) -> list[str]:
    """Return which metrics that were read on one rank are not the means of the values of all ranks."""
    candidates = [merged([each.candidates[k] for each in ranks]) for k in range(len(check.candidates))]
    problems = []
    for tag in dict.fromkeys(tag for calls in candidates for tag in calls):
        means = [float(np.mean(calls[tag][0])) for calls in candidates if tag in calls]
        names = [name for name in check.metrics if _without_loader_of_whole(name) == tag]
        found = check.metrics[names[0]] if names else math.nan
        if len(names) != 1 or not any(math.isclose(found, mean, rel_tol=1e-6) for mean in means):
            problems.append(f"metrics of {check.what} at {check.index}: {tag} is {found} for {means}")
    return problems[:1]


def _without_loader_of_whole(tag: str) -> str:
    """Drop the dataloader of a term that only hooks outside of batches call: none of several is the right one."""
    return tag.split("/dataloader_idx_", maxsplit=1)[0] if tag.startswith("whole") else tag
