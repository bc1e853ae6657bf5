"""Empties recorders into snapshots, and merges the snapshots of all ranks with one collective."""

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from lossframe import distributed
from lossframe.statistics.accumulator import HostCopy
from lossframe.statistics.moments import Moments
from lossframe.statistics.recorder import Recorder

Named = dict[str, dict[str, Moments]]
"""Term -> name -> moments."""

_BYTES_PER_TERM, _BYTES_PER_HISTOGRAM = 1 << 10, 1 << 13


class Snapshot:
    """Empties this rank's recorders with one copy from the device, and merges the values of all ranks on request.

    Creating a snapshot waits for no device. `recorders` must have the same keys, and count the values of the same
    names, on all ranks. The names that losses log may differ.
    """

    def __init__(self, recorders: Mapping[str, Recorder]) -> None:
        self.terms = list(recorders)
        histograms = sum(recorder.counts_values("loss") for recorder in recorders.values())
        self.capacity = _BYTES_PER_TERM * (1 + len(recorders)) + _BYTES_PER_HISTOGRAM * histograms
        found = {(term, name): a for term, recorder in recorders.items() for name, a in recorder.accumulators.items()}
        self.replicated = {key: accumulator.replicated for key, accumulator in found.items()}
        self._copy = HostCopy(list(found.values()))
        for recorder in recorders.values():
            recorder.reset_avg()

    @property
    def in_flight(self) -> bool:
        """Whether the copy from the device may still be on its way."""
        return self._copy.arrived is not None

    def merged(self, note: Callable[[Named], Any] = lambda named: None) -> tuple[Named, list[Any]]:
        """Return the merged moments of all ranks, and the results of `note` on each rank's own moments, in rank order.

        Takes one collective for any number of terms and statistics. Must be called on every rank, and returns the same
        result on all.
        """
        local: Named = {term: {} for term in self.terms}
        for (term, name), moments in zip(self.replicated, self._copy.moments(), strict=True):
            if moments.count:
                local[term][name] = moments
        message = (local, self.replicated, note(local))
        messages = distributed.exchange(message, self.capacity, distributed.collective_device())
        replicated = {key for _, flags, _ in messages for key, flag in flags.items() if flag}
        return merged([named for named, *_ in messages], replicated), [noted for *_, noted in messages]


def merged(parts: Sequence[Named], replicated: Container[tuple[str, str]] = ()) -> Named:
    """Merge the moments of several parts; of a `replicated` (term, name), keep those of the first part that has it."""
    groups: dict[tuple[str, str], list[Moments]] = {}
    for part in parts:
        for term, named in part.items():
            for name, moments in named.items():
                group = groups.setdefault((term, name), [])
                if not group or (term, name) not in replicated:
                    group.append(moments)
    result: Named = {term: {} for part in parts for term in part}
    for (term, name), group in groups.items():
        result[term][name] = Moments.merged(group)
    return result


def drain(recorders: Mapping[str, Recorder]) -> Named:
    """Return the statistics of losses and objectives over all ranks, term -> name -> moments, and reset them.

    Takes one collective for all terms, and must be called on every rank.
    """
    return {term: recorders[term].combined(named) for term, named in Snapshot(recorders).merged()[0].items()}
