"""Collects the statistics of a module's losses over all ranks, for training in windows and for each evaluation."""

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from lossframe import distributed
from lossframe.callbacks.monitor.nonfinite import Guard, Kept
from lossframe.loggers import tags
from lossframe.statistics.moments import Moments
from lossframe.statistics.recorder import Recorder
from lossframe.statistics.snapshot import Named, Snapshot, merged

_BYTES = 64
"""Bytes that suffice for a number in a message between ranks."""


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
        seen = {term: {name: moments.state() for name, moments in named.items()} for term, named in self.seen.items()}
        return {"seen": seen, "samples": self.samples, "seconds": self.seconds}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Create a window from a `state`."""
        seen = {t: {name: Moments.from_state(m) for name, m in named.items()} for t, named in state["seen"].items()}
        return cls(seen, state["samples"], state["seconds"])


class _Pending(NamedTuple):
    """Snapshot of this rank, perhaps still on its device. With `curves`, the snapshot closes a window."""

    snapshot: Snapshot
    kept: list[Kept]
    samples: int
    seconds: float
    curves: dict[str, float] | None


class Collector:
    """Takes snapshots of recorders, merges them over all ranks into the open window, and checks that they are finite.

    `recorders` are the losses and objectives of the module, by name.
    """

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.recorders: Mapping[str, Recorder] = {}
        self.samples_seen = 0
        self.local_samples = 0
        self.window = Window()
        self._training = False
        self._evaluated: list[tuple[Snapshot, list[Kept]]] = []
        self._loader = -1  # the current dataloader, if there are several
        self._pending: _Pending | None = None
        self._clock = 0.0

    def forget(self) -> None:
        """Drop all recorded values that are not in the open window yet."""
        self._pending, self._evaluated, self._loader = None, [], -1
        self.guard.forget()
        for recorder in self.recorders.values():
            recorder.reset_avg()

    def start(self) -> None:
        """Start or resume the collection of training, and its clock."""
        self._training = True
        self.guard.train(True)
        self._clock = time.monotonic()

    def stop(self) -> None:
        """Pause the collection of training, and its clock."""
        self._training = False
        self.guard.train(False)

    def collect(self, curves: dict[str, float] | None, wait: bool) -> list[tuple[Window, dict[str, float]]]:
        """Take a snapshot of training, and return the windows that are now complete, each with its further curves.

        With `curves`, such as learning rates, the snapshot closes the window. Without `wait`, a snapshot that is still
        on its device stays pending until the next one.
        """
        if not self._training:
            return []
        complete = self._finished()
        now = time.monotonic()
        kept = self.guard.take()
        snapshot = Snapshot(self.recorders)
        self._pending = _Pending(snapshot, kept, self.local_samples, now - self._clock, curves)
        self._clock, self.local_samples = now, 0
        return complete + self._finished() if wait or not snapshot.in_flight else complete

    def enter(self, loader: int) -> None:
        """Take a snapshot of each earlier dataloader that has none yet, at the first batch of one of several.

        Uses no collective, because a rank may have no batch of some dataloader.
        """
        self._loader = loader
        self._close_dataloaders(loader)

    def evaluation(self, stage: str) -> dict[str, Named]:
        """Return the statistics of an evaluation over all ranks, by the suffix of each dataloader's curves.

        The suffix is Lightning's, and is empty for a single dataloader.
        """
        last = max(distributed.exchange(self._loader, _BYTES, distributed.collective_device()))
        suffixes = [tags.of_dataloader(index) for index in range(last + 1)] or [""]
        self._close_dataloaders(len(suffixes))
        parts, self._evaluated, self._loader = self._evaluated, [], -1
        return {suffix: self._merged(stage + suffix, *part)[0] for suffix, part in zip(suffixes, parts, strict=True)}

    def state_dict(self) -> dict[str, Any]:
        """Return the open window and the samples seen."""
        return {"samples_seen": self.samples_seen, "skipped": self.guard.skipped, "window": self.window.state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the open window and the samples seen of a `state_dict`."""
        self.samples_seen, self.guard.skipped = state["samples_seen"], state["skipped"]
        self.window = Window.from_state(state["window"])

    def _close_dataloaders(self, number: int) -> None:
        """Take snapshots until the first `number` dataloaders have one each."""
        while len(self._evaluated) < number:
            kept = self.guard.take()
            self._evaluated.append((Snapshot(self.recorders), kept))

    def _finished(self) -> list[tuple[Window, dict[str, float]]]:
        """Merge the pending snapshot of all ranks into the open window. Return the window if the snapshot closes it."""
        if self._pending is None:
            return []
        pending, self._pending = self._pending, None
        seen, samples = self._merged("train", pending.snapshot, pending.kept, pending.samples)
        self.samples_seen += samples
        self.window.add(seen, samples, pending.seconds, self.samples_seen)
        if pending.curves is None or not self.window.samples:
            return []
        window, self.window = self.window, Window()
        return [(window, pending.curves)]

    def _merged(self, stage: str, snapshot: Snapshot, kept: list[Kept], samples: int = 0) -> tuple[Named, int]:
        """Merge a snapshot of all ranks and their numbers of samples; raise or warn if values are not finite."""
        seen, notes = snapshot.merged(lambda local: (samples, self.guard.observation(local, kept)))
        warning = self.guard.judge(stage, seen, [observation for _, observation in notes])
        if warning is not None:
            warnings.warn(warning, stacklevel=2)
        return seen, sum(count for count, _ in notes)
