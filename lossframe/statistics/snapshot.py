"""Empties recorders into snapshots, and merges the snapshots of all ranks with one collective."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from lossframe import distributed
from lossframe.statistics.accumulator import HostCopy
from lossframe.statistics.moments import Moments
from lossframe.statistics.recorder import Recorder

Named = dict[str, dict[str, Moments]]
"""Term -> name -> moments."""

Key = TypeVar("Key", bound=Hashable)

Parts = dict[tuple[str, str, bool], Moments]
"""Moments on one rank by term, name, and whether the values are replicated: equal on all ranks, and counted once."""

_BYTES_PER_TERM, _BYTES_PER_HISTOGRAM = 1 << 10, 1 << 13


class Snapshot:
    """Empties this rank's recorders with one copy from the device, for `merge_ranks`.

    Creating a snapshot waits for no device. Staged values stay in their recorders. `recorders` must have the same keys,
    and count the values of the same names, on all ranks. The names that losses log may differ. `called` are the terms
    that have recorded values "loss", even if none of these values counts.
    """

    def __init__(self, recorders: Mapping[str, Recorder]) -> None:
        self.terms = list(recorders)
        histograms = sum(recorder.counts_values("loss") for recorder in recorders.values())
        self.capacity = _BYTES_PER_TERM * (1 + len(recorders)) + _BYTES_PER_HISTOGRAM * histograms
        found = {(term, *key): a for term, recorder in recorders.items() for key, a in recorder.accumulators.items()}
        self._keys = list(found)
        self.called = {
            term for (term, name, _), each in found.items() if name == "loss" and (each.pending or each.states)
        }
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


def merge_ranks(
    snapshots: Mapping[Key, Snapshot], note: Callable[[Key, Named], Any] = lambda key, local: None
) -> dict[Key, tuple[Named, list[Any]]]:
    """Return the merged moments of all ranks for each key, and the results of `note(key, own moments)` of each rank.

    A rank may lack a key. Takes one collective for any number of terms and statistics, and a second one if several keys
    do not fit into the first. Must be called on every rank, and returns the same result on all.
    """
    first = next(iter(snapshots.values()))
    own = {key: snapshot.parts() for key, snapshot in snapshots.items()}
    message = {key: (parts, note(key, of_ranks([parts], first.terms))) for key, parts in own.items()}
    messages = distributed.exchange(message, first.capacity, distributed.collective_device())
    result: dict[Key, tuple[Named, list[Any]]] = {}
    for key in dict.fromkeys(key for each in messages for key in each):
        found = [each[key] for each in messages if key in each]
        result[key] = of_ranks([parts for parts, _ in found], first.terms), [noted for _, noted in found]
    return result


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
    found = merge_ranks({"": Snapshot(recorders)})[""][0]
    return {term: recorders[term].combined(named) for term, named in found.items()}
