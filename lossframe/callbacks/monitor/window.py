"""Holds the statistics between two points of the curves of training."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self, cast

from lossframe import saved
from lossframe.errors import names
from lossframe.loggers.position import Position
from lossframe.statistics.moments import Moments
from lossframe.statistics.snapshot import Named, merged

_SEEN = {...: {...: (*[int | float] * 6, saved.Maybe(([int], [int | float])))}}
_STATE = {
    "batches_seen": int,
    "collector": {
        "samples_seen": int,
        "skipped": int,
        "window": {"seen": _SEEN, "samples": int, "seconds": int | float},
        "epoch": _SEEN,
    },
    "spikes": {...: [int | float]},
    "written": {...: (int, int, int)},
}
"""The form of what a `LossMonitor` saves."""


@dataclass
class Window:
    """Holds the statistics since the last point of the curves, and the samples and seconds of training behind them."""

    seen: Named = field(default_factory=dict)
    samples: int = 0
    seconds: float = 0.0
    end: int = 0
    """Number of samples that all ranks have seen since training began."""

    def add(self, seen: Named, samples: int, seconds: float, end: int) -> None:
        """Merge a snapshot of all ranks into the window."""
        self.seen = merged([self.seen, seen])
        self.samples += samples
        self.seconds += seconds
        self.end = end

    def state(self) -> dict[str, Any]:
        """Return the window as numbers and lists, for a checkpoint."""
        return {"seen": state_of(self.seen), "samples": self.samples, "seconds": self.seconds}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Create a window from a `state`."""
        return cls(named_of(state["seen"]), state["samples"], state["seconds"])

    @property
    def is_empty(self) -> bool:
        """Whether neither a sample nor a value has been seen."""
        return not self.samples and not any(self.seen.values())


class Progress(NamedTuple):
    """Describes where training is when a window is closed, and holds further curves of the point."""

    position: Position
    curves: dict[str, float]


def check_state(state: object) -> None:
    """Raise a `StateError` unless a state is that of a `LossMonitor`."""
    saved.check(state, _STATE, "LossMonitor")
    if unknown := set(cast(Any, state)["written"]) - {"train", "val", "test"}:
        raise saved.StateError(f"LossMonitor.written: wanted stages, found {names(map(str, unknown))}")


def state_of(seen: Named) -> dict[str, Any]:
    """Return moments as numbers and lists."""
    return {term: {name: moments.state() for name, moments in named.items()} for term, named in seen.items()}


def named_of(state: Mapping[str, Any]) -> Named:
    """Create moments from a `state_of`."""
    return {term: {name: Moments.from_state(m) for name, m in named.items()} for term, named in state.items()}
