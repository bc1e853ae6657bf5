"""What a benchmark is made of: contestants, cases, figures."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch

Step = Callable[[], object]
Make = Callable[[int, torch.device], Step]
"""A size and a device -> the step to measure, with its inputs ready. Torch is seeded alike for all contestants."""


@dataclass(frozen=True)
class Contestant:
    """Somebody to measure. `make` is a function of a module, or a `partial` of one: it is sent to another process."""

    name: str
    make: Make
    largest: int | None = None
    """The largest size to try, where more would only cost time."""


@dataclass(frozen=True)
class Case:
    """Contestants who do the same work, of some size; the first is ours."""

    name: str
    size: int
    contestants: tuple[Contestant, ...]
    seconds: float = 10.0
    """How long the rounds go on at least; after six times as long, three rounds are enough."""


@dataclass(frozen=True)
class Figure:
    """What was measured of one contestant: the time of each round, and the peak of memory beyond the inputs."""

    case: str
    size: int
    contestant: str
    rounds: tuple[float, ...]
    megabytes: float | None
    failure: str | None

    @property
    def seconds(self) -> float | None:
        """The median time."""
        return statistics.median(self.rounds) if self.rounds else None


@dataclass(frozen=True)
class Setting:
    """Where and how often to measure."""

    device: str
    threads: int
    repeats: int


def at_sizes(name: str, sizes: list[int], *contestants: Contestant, seconds: float = 10.0) -> list[Case]:
    """Return a case a size."""
    able = {size: tuple(c for c in contestants if c.largest is None or size <= c.largest) for size in sizes}
    return [Case(name, size, some, seconds) for size, some in able.items()]
