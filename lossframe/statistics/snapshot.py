"""Empties recorders into snapshots, and merges the snapshots of all ranks with one collective."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lossframe import distributed
from lossframe.statistics.accumulator import HostCopy
from lossframe.statistics.moments import Moments
from lossframe.statistics.recorder import Recorder

Named = dict[str, dict[str, Moments]]
"""Term -> name -> moments."""

Parts = dict[tuple[str, str, bool], Moments]
"""Moments on one rank by term, name, and whether the values are replicated: equal on all ranks, and counted once."""

_BYTES_PER_TERM, _BYTES_PER_HISTOGRAM = 1 << 10, 1 << 13


class Snapshot:
    """Empties this rank's recorders with one copy from the device, and merges the values of all ranks on request.

    Creating a snapshot waits for no device. Staged values stay in their recorders. `recorders` must have the same keys,
    and count the values of the same names, on all ranks. The names that losses log may differ.
    """

    def __init__(self, recorders: Mapping[str, Recorder]) -> None:
        self.terms = list(recorders)
        histograms = sum(recorder.counts_values("loss") for recorder in recorders.values())
        self.capacity = _BYTES_PER_TERM * (1 + len(recorders)) + _BYTES_PER_HISTOGRAM * histograms
        found = {(term, *key): a for term, recorder in recorders.items() for key, a in recorder.accumulators.items()}
        self._keys = list(found)
        self._copy = HostCopy(list(found.values()))
        for recorder in recorders.values():
            recorder.empty()

    @property
    def in_flight(self) -> bool:
        """Whether the copy from the device may still be on its way."""
        return self._copy.arrived is not None

    def parts(self) -> Parts:
        """Wait for the copy, and return the moments of this rank."""
        return {key: moments for key, moments in zip(self._keys, self._copy.moments(), strict=True) if moments.count}

    def merged(self, note: Callable[[Named], Any] = lambda named: None) -> tuple[Named, list[Any]]:
        """Return the merged moments of all ranks, and the results of `note` on each rank's own moments, in rank order.

        Takes one collective for any number of terms and statistics. Must be called on every rank, and returns the same
        result on all.
        """
        local = self.parts()
        message = (local, note(of_ranks([local], self.terms)))
        messages = distributed.exchange(message, self.capacity, distributed.collective_device())
        return of_ranks([parts for parts, _ in messages], self.terms), [noted for _, noted in messages]


def of_ranks(ranks: Sequence[Parts], terms: Iterable[str] = ()) -> Named:
    """Merge the parts of several ranks. Of replicated values, those of the first rank that has them count."""
    groups: dict[tuple[str, str], list[Moments]] = {}
    replicated: set[tuple[str, str, bool]] = set()
    for parts in ranks:
        for key, moments in parts.items():
            if key not in replicated:
                groups.setdefault(key[:2], []).append(moments)
        replicated.update(key for key in parts if key[2])
    result: Named = {term: {} for term in terms}
    for (term, name), group in groups.items():
        result.setdefault(term, {})[name] = Moments.merged(group)
    return result


def merged(parts: Sequence[Named]) -> Named:
    """Merge the moments of several parts, such as those of one window."""
    result: Named = {term: {} for part in parts for term in part}
    for term, named in result.items():
        for name in dict.fromkeys(name for part in parts for name in part.get(term, ())):
            named[name] = Moments.merged([part[term][name] for part in parts if name in part.get(term, ())])
    return result


def drain(recorders: Mapping[str, Recorder]) -> Named:
    """Return the statistics of losses and objectives over all ranks, term -> name -> moments, and reset them.

    Takes one collective for all terms, and must be called on every rank.
    """
    return {term: recorders[term].combined(named) for term, named in Snapshot(recorders).merged()[0].items()}
