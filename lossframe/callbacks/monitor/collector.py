"""Draining what a module's losses remember, into windows of training that may end before the device has sent them."""

import time
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

from lossframe import distributed
from lossframe.callbacks.monitor.nonfinite import Guard, Kept
from lossframe.statistics.accumulator import Memory
from lossframe.statistics.snapshot import Drain, Seen, Window

Beside = dict[str, float]
"""Curves shown beside the losses'."""

_BYTES = 64
"""How many a number takes at most between ranks."""


class _Reading(NamedTuple):
    """What was drained from this rank, perhaps not on the host yet; with `beside`, the end of a window."""

    drain: Drain
    kept: list[Kept]
    samples: int
    seconds: float
    beside: Beside | None


class Reader:
    """Reads memories on all ranks, and says what in them was not finite; keeps the open window of training."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.memories: Mapping[str, Memory] = {}
        self.samples_seen = 0
        self.local_samples = 0
        self.window = Window()
        self._training = False
        self._aside: list[tuple[Drain, list[Kept]]] = []
        self._loader = -1  # the dataloader that is being evaluated, where there are several
        self._due: _Reading | None = None
        self._clock = 0.0

    def forget(self) -> None:
        """Forget what was not part of training."""
        self._due, self._aside, self._loader = None, [], -1
        self.guard.take()
        for memory in self.memories.values():
            memory.reset()

    def start(self) -> None:
        """Start, or go on with, training and its clock."""
        self._training = True
        self._clock = time.monotonic()

    def stop(self) -> None:
        """Stop the clock: what comes now is not training."""
        self._training = False

    def read(self, beside: Beside | None, wait: bool) -> list[tuple[Window, Beside]]:
        """Drain what was seen since the last time, and return the windows that are complete with it.

        `beside` ends the window. Unless told to `wait`, what the device has still to send is complete the next time.
        """
        if not self._training:
            return []
        complete = self._finished()
        now = time.monotonic()
        kept = self.guard.take()
        drain = Drain(self.memories)
        self._due = _Reading(drain, kept, self.local_samples, now - self._clock, beside)
        self._clock, self.local_samples = now, 0
        return complete + self._finished() if wait or not drain.in_flight else complete

    def enter(self, loader: int) -> None:
        """Set aside what the dataloaders before this one, of several, gave.

        No collective, for a rank may have no batch of one.
        """
        self._loader = loader
        self._set_aside(loader)

    def drain(self, stage: str) -> dict[str, Seen]:
        """Return what all ranks saw in a stage that is not training, by the suffix that each dataloader's curves have.

        The suffix is Lightning's own, and empty unless there are several dataloaders, one after the other.
        """
        last = max(distributed.exchange(self._loader, _BYTES, distributed.collective_device()))
        suffixes = [f"/dataloader_idx_{k}" for k in range(last + 1)] or [""]
        self._set_aside(len(suffixes))
        aside, self._aside, self._loader = self._aside, [], -1
        return {suffix: self._merged(stage + suffix, *part)[0] for suffix, part in zip(suffixes, aside, strict=True)}

    def state_dict(self) -> dict[str, Any]:
        """Return the open window and how far training is."""
        return {"samples_seen": self.samples_seen, "skipped": self.guard.skipped, "window": self.window.state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the state was made."""
        self.samples_seen, self.guard.skipped = state["samples_seen"], state["skipped"]
        self.window = Window.from_state(state["window"])

    def _set_aside(self, number: int) -> None:
        """Have what each of so many dataloaders gave aside: what is in the memories now is the next one's."""
        while len(self._aside) < number:
            kept = self.guard.take()
            self._aside.append((Drain(self.memories), kept))

    def _finished(self) -> list[tuple[Window, Beside]]:
        """Merge what is due, of all ranks, into the open window; return the window if it is the end of one."""
        if self._due is None:
            return []
        reading, self._due = self._due, None
        seen, samples = self._merged("train", reading.drain, reading.kept, reading.samples)
        self.samples_seen += samples
        self.window.add(seen, samples, reading.seconds, self.samples_seen)
        if reading.beside is None or not self.window.samples:
            return []
        window, self.window = self.window, Window()
        return [(window, reading.beside)]

    def _merged(self, stage: str, drain: Drain, kept: list[Kept], samples: int = 0) -> tuple[Seen, int]:
        seen, notes = drain.merged(lambda local: (samples, self.guard.finding(local, kept)))
        warning = self.guard.judge(stage, seen, [finding for _, finding in notes])
        if warning is not None:
            warnings.warn(warning, stacklevel=2)
        return seen, sum(count for count, _ in notes)
