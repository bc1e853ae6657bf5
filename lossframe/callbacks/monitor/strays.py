"""Finds losses that record values but are in no module that a monitor knows."""

from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

from lossframe.statistics import registry
from lossframe.statistics.recorder import Recorder


class Strays:
    """Names the classes of recorders that have recorded values between two looks without being known, once each."""

    def __init__(self) -> None:
        self._filled: WeakKeyDictionary[Recorder, Any] = WeakKeyDictionary()
        self._named: set[str] = set()

    def look(self, known: Iterable[Recorder]) -> list[str]:
        """Return the classes of the unknown recorders that have recorded values since the last look."""
        familiar = {id(recorder) for recorder in known}
        found = []
        for recorder in registry.recorders():
            if id(recorder) in familiar:
                continue
            filled = _filled(recorder)
            if filled != self._filled.get(recorder, filled):
                found.append(type(recorder).__name__)
            self._filled[recorder] = filled
        new = sorted(set(found) - self._named)
        self._named.update(new)
        return new


def _filled(recorder: Recorder) -> tuple[tuple[int, int], ...]:
    """Return how many pending values and folded states each name of a recorder has."""
    return tuple((len(each.pending), len(each.states)) for each in recorder.accumulators.values())
