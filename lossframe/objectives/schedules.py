"""Schedules: weights of terms that follow the progress of training."""

import itertools
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

from lossframe.errors import InputError, names, nearest
from lossframe.objectives.progress import Progress, check_unit

Curve = Callable[[Mapping[str, Any], float], float]


def _constant(p: Mapping[str, Any], x: float) -> float:
    """`value` while x is in [from, until), 0 outside."""
    return float(p["value"]) if p["from"] <= x < p["until"] else 0.0


def _share(p: Mapping[str, Any], x: float) -> float:
    """Return the part of the way from `from` to `until`, in [0, 1]."""
    return float(min(max((x - p["from"]) / (p["until"] - p["from"]), 0.0), 1.0))


def _linear(p: Mapping[str, Any], x: float) -> float:
    """A straight line from `start` to `end`."""
    t = _share(p, x)
    return float((1 - t) * p["start"] + t * p["end"])


def _cosine(p: Mapping[str, Any], x: float) -> float:
    """Half a wave of the cosine from `start` to `end`."""
    t = (1 - math.cos(math.pi * _share(p, x))) / 2
    return float((1 - t) * p["start"] + t * p["end"])


def _exponential(p: Mapping[str, Any], x: float) -> float:
    """`start (end / start)^t`, where t goes from 0 to 1."""
    return float(p["start"] * (p["end"] / p["start"]) ** _share(p, x))


def _piecewise(p: Mapping[str, Any], x: float) -> float:
    """Straight lines between `points`, progress -> weight; the first and the last weight hold outside."""
    points = p["points"]
    after = bisect_right([at for at, _ in points], x)
    if after in (0, len(points)):
        return float(points[min(after, len(points) - 1)][1])
    (left, low), (right, high) = points[after - 1], points[after]
    t = (x - left) / (right - left)
    return float((1 - t) * low + t * high)


def _step(p: Mapping[str, Any], x: float) -> float:
    """`start factor^n`, where n counts the whole periods of length `every` since `from`."""
    return float(p["start"] * p["factor"] ** math.floor(max(min(x, p["until"]) - p["from"], 0.0) / p["every"]))


def _cyclic(p: Mapping[str, Any], x: float) -> float:
    """A triangular wave from `start` to `end` and back in each `period`."""
    t = math.fmod(max(min(x, p["until"]) - p["from"], 0.0) / p["period"], 1.0)
    t = 1 - abs(1 - 2 * t)
    return float((1 - t) * p["start"] + t * p["end"])


_ALWAYS = {"from": 0.0, "until": math.inf}
KINDS: dict[str, tuple[Curve, tuple[str, ...], Mapping[str, float]]] = {
    "constant": (_constant, ("value",), _ALWAYS),
    "linear": (_linear, ("start", "end", "until"), {"from": 0.0}),
    "cosine": (_cosine, ("start", "end", "until"), {"from": 0.0}),
    "exponential": (_exponential, ("start", "end", "until"), {"from": 0.0}),
    "piecewise": (_piecewise, ("points",), {}),
    "step": (_step, ("start", "factor", "every"), _ALWAYS),
    "cyclic": (_cyclic, ("start", "end", "period"), _ALWAYS),
}
"""Kinds of schedules: the function of the progress, the parameters that it wants, and those that have a default."""


@dataclass(frozen=True)
class Schedule:
    """Gives the weight of a term as a function of the progress of training, in one unit."""

    term: str
    kind: str
    unit: str
    parameters: Mapping[str, Any]

    def at(self, progress: float) -> float:
        """Return the weight after so many samples, steps or epochs."""
        return KINDS[self.kind][0](self.parameters, progress)

    def now(self, progress: Progress) -> float:
        """Return the weight at the progress of a training."""
        return self.at(progress.of(self.unit, f"schedule.{self.term}"))

    @property
    def horizon(self) -> float:
        """The progress after which the weight has taken all its values."""
        p = self.parameters
        if self.kind == "piecewise":
            return float(p["points"][-1][0])
        cycle = {"step": 5 * p.get("every", 0), "cyclic": 2 * p.get("period", 0)}.get(self.kind, p["from"])
        return float(p["until"] if math.isfinite(p["until"]) else p["from"] + cycle)


def schedules(configured: Mapping[str, Any] | None, terms: Iterable[str]) -> dict[str, Schedule]:
    """Return the schedule of each term that has one; null is none. An `InputError` names a wrong key."""
    configured = {} if configured is None else configured
    if not isinstance(configured, Mapping):
        raise InputError(f"schedule={configured}: wanted a mapping from terms, as {_EXAMPLE}")
    known = list(terms)
    for term in configured:
        if term not in known:
            raise InputError(f"schedule.{term}: the terms are {names(known)}.{nearest(str(term), known)}")
    return {term: schedule(str(term), given) for term, given in configured.items() if given is not None}


_EXAMPLE = "schedule.TERM={kind: linear, start: 0, end: 1, until: 5, unit: epochs}"


def schedule(term: str, given: Any) -> Schedule:
    """Return the schedule that a mapping describes; its `unit` is epochs by default."""
    key = f"schedule.{term}"
    if not isinstance(given, Mapping):
        raise InputError(f"{key}={given}: wanted a mapping, found {type(given).__name__}; as in {_EXAMPLE}")
    kind = given.get("kind")
    if kind not in KINDS:
        raise InputError(f"{key}.kind={kind}: wanted one of {names(KINDS)}.{nearest(str(kind), KINDS)}")
    _, wanted, defaults = KINDS[kind]
    known = [*wanted, *(name for name in defaults if name not in wanted)]
    given = {name: value for name, value in given.items() if value is not None}
    if missing := [name for name in wanted if name not in given]:
        raise InputError(f"{key}: kind {kind!r} wants {names(wanted)}; {names(missing)} is missing")
    for name in given:
        if name not in (*known, "kind", "unit"):
            raise InputError(f"{key}.{name}: kind {kind!r} takes {names([*known, 'unit'])}.{nearest(str(name), known)}")
    unit = check_unit(f"{key}.unit", given.get("unit", "epochs"))
    values = {name: _value(f"{key}.{name}", name, given[name]) for name in known if name in given}
    found = Schedule(term, kind, unit, {**defaults, **values})
    _check_ranges(key, kind, found.parameters)
    return found


def _value(key: str, name: str, value: Any) -> Any:
    """Return a number, or the points of a piecewise schedule in the order of progress."""
    if name != "points":
        return _number(key, value)
    pairs = list(value.items()) if isinstance(value, Mapping) else value
    try:
        points = [(_number(key, at), _number(key, weight)) for at, weight in pairs]
    except (TypeError, ValueError) as error:
        raise InputError(f"{key}={value}: wanted points, progress -> weight, as {{0: 0, 5: 0.1}}") from error
    if not points or any(left >= right for (left, _), (right, _) in itertools.pairwise(points)):
        raise InputError(f"{key}={value}: wanted points in the order of progress, as {{0: 0, 5: 0.1}}")
    return points


def _number(key: str, value: Any) -> float:
    try:
        number = float(value) if isinstance(value, str) else value  # a key of a mapping may be a text for Hydra
    except ValueError:
        number = value
    if isinstance(number, bool) or not isinstance(number, Real) or not math.isfinite(number):
        raise InputError(f"{key}={value}: wanted a finite number, found {type(value).__name__}")
    return float(number)


def _check_ranges(key: str, kind: str, p: Mapping[str, Any]) -> None:
    if "until" in p and p["until"] <= p["from"]:
        raise InputError(f"{key}: until {p['until']:g} comes before from {p['from']:g}; choose a later until")
    for name in ("every", "period"):
        if name in p and p[name] <= 0:
            raise InputError(f"{key}.{name}={p[name]:g}: wanted more than 0")
    if kind == "exponential" and not p["start"] * p["end"] > 0:
        raise InputError(f"{key}: kind 'exponential' wants start and end of one sign, neither 0; use kind: linear")
