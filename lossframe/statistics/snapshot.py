"""Reading and emptying the memories of all ranks: one transfer from the device, one collective."""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from lossframe import distributed
from lossframe.statistics.accumulator import Memory, Transfer
from lossframe.statistics.moments import Moments

Seen = dict[str, dict[str, Moments]]
"""Term -> name -> moments."""

_BYTES_PER_TERM, _BYTES_PER_HISTOGRAM = 1 << 10, 1 << 13


class Drain:
    """What this rank's memories held when it was made: they are empty from then on, and nothing has waited yet.

    `memories` has the same keys, and counts the same names, on all ranks; the names that were logged may differ.
    """

    def __init__(self, memories: Mapping[str, Memory]) -> None:
        self.terms = list(memories)
        histograms = sum(len(memory.counted) for memory in memories.values())
        self.capacity = _BYTES_PER_TERM * (1 + len(memories)) + _BYTES_PER_HISTOGRAM * histograms
        states = {(term, name): s for term, memory in memories.items() for name, s in memory.records.items()}
        self.replicated = {key: s.replicated for key, s in states.items()}
        self.transfer = Transfer(list(states.values()))
        for memory in memories.values():
            memory.reset()

    @property
    def in_flight(self) -> bool:
        """Whether the device is still to send it."""
        return self.transfer.arrived is not None

    def merged(self, note: Callable[[Seen], Any] = lambda seen: None) -> tuple[Seen, list[Any]]:
        """Return what all ranks remembered, and each rank's note on what it saw itself, in rank order.

        One collective for any number of terms and statistics: must be called on every rank, and gives every rank
        the same result.
        """
        local: Seen = {term: {} for term in self.terms}
        for (term, name), moments in zip(self.replicated, self.transfer.result(), strict=True):
            if moments.count:  # nothing seen, nothing to tell
                local[term][name] = moments
        message = (local, self.replicated, note(local))
        messages = distributed.exchange(message, self.capacity, distributed.collective_device())
        replicated = {key for _, flags, _ in messages for key, flag in flags.items() if flag}
        return merged([seen for seen, *_ in messages], replicated), [noted for *_, noted in messages]


def merged(parts: Sequence[Seen], replicated: Container[tuple[str, str]] = ()) -> Seen:
    """Return what several parts saw together; of a `replicated` term and name, what the first part saw."""
    groups: dict[tuple[str, str], list[Moments]] = {}
    for seen in parts:
        for term, named in seen.items():
            for name, moments in named.items():
                group = groups.setdefault((term, name), [])
                if not group or (term, name) not in replicated:
                    group.append(moments)
    result: Seen = {term: {} for seen in parts for term in seen}
    for (term, name), group in groups.items():
        result[term][name] = Moments.merged(group)
    return result


def drain(memories: Mapping[str, Memory]) -> Seen:
    """Read and empty the memories of all ranks: term -> name -> moments; to be called on every rank."""
    return Drain(memories).merged()[0]


@dataclass
class Window:
    """What was seen since the last point of the curves, in how many samples and seconds of training."""

    seen: Seen = field(default_factory=dict)
    samples: int = 0
    seconds: float = 0.0
    end: int = 0
    """The samples seen by all ranks since training began."""

    def add(self, seen: Seen, samples: int, seconds: float, end: int) -> None:
        """Take in what a drain gave."""
        self.seen = merged([self.seen, seen])
        self.samples += samples
        self.seconds += seconds
        self.end = end

    def state(self) -> dict[str, Any]:
        """Return plain numbers, for a checkpoint."""
        seen = {term: {name: moments.state() for name, moments in named.items()} for term, named in self.seen.items()}
        return {"seen": seen, "samples": self.samples, "seconds": self.seconds}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Take over a `state`."""
        seen = {t: {name: Moments.from_state(m) for name, m in named.items()} for t, named in state["seen"].items()}
        return cls(seen, state["samples"], state["seconds"])
