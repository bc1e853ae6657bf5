"""Computes the curves that `LossMonitor` must write from the journals of all ranks, and compares them."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from monitor_module import Entry

from lossframe.statistics.histogram import RELATIVE_ERROR

Calls = dict[str, list[list[float]]]
Observed = tuple[str, int, dict[str, float]]
TAGS = {"extra": "first/extra", "centred_extra": "centred/extra"}
QUANTILES = {"p5": 0.05, "p50": 0.5, "p95": 0.95, "p99": 0.99}
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Policy:
    """Says where the monitor puts values for which more than one place is right."""

    batch_end_in_window: bool = False
    """Whether a window holds what the module's `on_train_batch_end` records after the window's last batch."""
    joined_epoch_end: bool = False
    """Whether a window that ends with the last batch of an epoch also holds what `on_train_epoch_end` records."""
    fit_start: bool = False
    """Whether the first window holds what `on_fit_start` records."""
    after_training: bool = True
    """Whether a last point of training holds what `on_train_end` and `on_fit_end` record."""
    evaluation_end: bool = True
    """Whether the point of an evaluation holds what the module's `on_validation_end` records."""


@dataclass
class Point:
    """Holds the recorded values of one point of all curves of a stage, by tag and by call."""

    stage: str
    samples: int
    calls: Calls
    closed: int
    """Index of the journal's entry that completes the point."""
    optional: bool = False


@dataclass
class Check:
    """Holds metrics that a callback has read, and the values of which they must be means: one of `candidates`."""

    what: str
    metrics: dict[str, float]
    candidates: list[Calls]


@dataclass
class Oracle:
    """Divides the journal of one rank into the points of all curves."""

    log_every: int
    policy: Policy
    loaders: int = 1
    points: list[Point] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    samples: int = 0
    batches: int = 0
    _size: int = 0
    _index: int = 0
    _window: Calls = field(default_factory=dict)
    _epoch: Calls | None = field(default_factory=dict)
    _epoch_end: Calls = field(default_factory=dict)
    _evaluation: Calls = field(default_factory=dict)
    _evaluated: list[Calls] = field(default_factory=list)
    _edge: Calls = field(default_factory=dict)

    def read(self, journal: Sequence[Entry]) -> "Oracle":
        """Read all entries."""
        for self._index, entry in enumerate(journal):
            match entry.stage:
                case "train":
                    self._train(entry)
                case "val" | "test":
                    self._evaluate(entry)
                case "outside":
                    self._outside(entry)
                case "saved":
                    self._saved(entry)
                case "observed":
                    self._observe(entry)
        return self

    def _train(self, entry: Entry) -> None:
        if entry.hook == "training_step":
            self._size = entry.samples
        calls = _tagged(entry, 1)
        if entry.hook == "on_train_batch_end":
            self._end_batch(calls)
            return
        _add(self._window, calls)
        if entry.hook == "on_train_epoch_end":
            self._epoch_end = calls
            self._close("train", self._window)
        elif self._epoch is not None:
            _add(self._epoch, calls)

    def _end_batch(self, calls: Calls) -> None:
        self.samples, self.batches, self._size = self.samples + self._size, self.batches + 1, 0
        if self._epoch is not None:
            _add(self._epoch, calls)
        if self.policy.batch_end_in_window:
            _add(self._window, calls)
        if self.batches % self.log_every == 0:
            self._close("train", self._window)
        if not self.policy.batch_end_in_window:
            _add(self._window, calls)

    def _evaluate(self, entry: Entry) -> None:
        late = re.fullmatch("on_(validation|test)_(end|model_train)", entry.hook)
        if late and not self._edge:
            self._edge = {tag: list(calls) for tag, calls in self._evaluation.items()}
        if self.policy.evaluation_end or not late:
            _add(self._evaluation, _tagged(entry, self.loaders))
        if entry.hook.endswith("model_train"):
            self._evaluated = [{**self._evaluation}, self._edge]
            self._edge = {}
            self._close(entry.stage, self._evaluation)

    def _outside(self, entry: Entry) -> None:
        if entry.hook == "on_train_end" and self.policy.after_training:
            _add(self._window, _tagged(entry, 1))
        if entry.hook == "on_fit_end":
            self._close("train", self._window)

    def _saved(self, entry: Entry) -> None:
        """Read where a checkpoint was saved and training resumed: the hooks after it, of the same batch, are skipped."""
        self._epoch = None
        if entry.hook == "on_train_batch_end" and self._size:
            self._end_batch({})
        elif entry.hook == "on_train_epoch_end":
            self._close("train", self._window)
        self._evaluation = {}

    def _observe(self, entry: Entry) -> None:
        if entry.hook == "on_train_epoch_end" and self._epoch is not None:
            whole = {tag: list(calls) for tag, calls in self._epoch.items()}
            _add(whole, self._epoch_end)
            self._epoch_end = {}
            self.checks.append(Check(f"train metrics at {self._index}", entry.metrics, [self._epoch, whole]))
        elif entry.hook == "returned":
            self.checks.append(Check(f"returned metrics at {self._index}", entry.metrics, self._evaluated))
        elif entry.hook != "on_train_epoch_end":
            seen = {tag: list(calls) for tag, calls in self._evaluation.items()}
            self.checks.append(Check(f"metrics of {entry.hook} at {self._index}", entry.metrics, [seen]))

    def _close(self, stage: str, calls: Calls) -> None:
        point = Point(stage, self.samples, {**calls}, self._index)
        calls.clear()
        last = next((each for each in reversed(self.points) if each.stage == stage), None)
        if stage == "train" and self.policy.joined_epoch_end and last and last.samples == self.samples:
            _add(last.calls, point.calls)
            last.closed = self._index
        else:
            self.points.append(point)


def _tagged(entry: Entry, loaders: int) -> Calls:
    """Return the calls of an entry by tag, with the suffix of its dataloader if there are several."""
    suffix = f"/dataloader_idx_{entry.loader}" if loaders > 1 and entry.loader is not None else ""
    return {TAGS.get(term, term) + suffix: list(calls) for term, calls in entry.calls.items()}


def _add(to: Calls, calls: Calls) -> None:
    for tag, values in calls.items():
        to[tag] = to.get(tag, []) + values


def of_all_ranks(ranks: Sequence[Point]) -> Point:
    """Merge the points of the ranks."""
    assert len({point.stage for point in ranks}) == 1, "the journals of the ranks differ"
    return replace(ranks[0], samples=sum(p.samples for p in ranks), calls=merged([p.calls for p in ranks]))


def merged(ranks: Sequence[Calls]) -> Calls:
    """Return the values of all ranks by tag, in one list; a relational loss takes those of one call together."""
    found: Calls = {}
    for tag in dict.fromkeys(tag for calls in ranks for tag in calls):
        each = [calls.get(tag, []) for calls in ranks]
        if tag.split("/dataloader")[0] == "centred":
            together = [np.array(sum(call, [])) for call in zip(*each, strict=True)]
            values = [value for x in together if len(x) for value in np.square(x - x.mean()).tolist()]
        else:
            values = [value for calls in each for call in calls for value in call]
        if values:
            found[tag] = [values]
    return found


def bounds(values: Sequence[float], quantiles: bool) -> dict[str, tuple[float, float]]:
    """Return the lowest and highest right number for each statistic of values, by suffix."""
    x = np.array(values)
    slack, size = TOLERANCE * max(float(np.ptp(x)), abs(float(x.mean()))), max(abs(x.min()), abs(x.max()))
    found = {"": (x.mean() - slack, x.mean() + slack), "std": (x.std() - slack, x.std() + slack)}
    found |= {name: (edge - slack, edge + slack) for name, edge in (("min", x.min()), ("max", x.max()))}
    for suffix, q in QUANTILES.items() if quantiles else ():
        low, high = (float(np.quantile(x, q, method=method)) for method in ("lower", "higher"))
        found[suffix] = (low - 2 * RELATIVE_ERROR * abs(low), high + 2 * RELATIVE_ERROR * abs(high) + 1e-15 * size)
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
            problems.append(f"{check.what}: {tag} is {found} for {means}")
    return problems[:1]


def _without_loader_of_whole(tag: str) -> str:
    """Drop the dataloader of a term that only hooks outside of batches call: none of several is the right one."""
    return tag.split("/dataloader_idx_")[0] if tag.startswith("whole") else tag
