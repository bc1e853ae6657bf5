"""Collects the statistics of a module's losses over all ranks, for training in windows and for each evaluation."""

import logging
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pytorch_lightning.utilities import rank_zero_warn

from lossframe.callbacks.monitor.nonfinite import Guard, Kept
from lossframe.callbacks.monitor.window import Progress, Window, named_of, state_of
from lossframe.errors import NonFiniteError
from lossframe.statistics.recorder import Recorder
from lossframe.statistics.snapshot import Named, Snapshot, merge_ranks, merged

_log = logging.getLogger(__name__)

_WINDOWS = 64
"""Number of windows of an epoch that are merged at once."""


class _Pending(NamedTuple):
    """Snapshot of this rank, perhaps still on its device. With `closed`, the snapshot closes a window."""

    snapshot: Snapshot
    kept: list[Kept]
    samples: int
    batches: int
    seconds: float
    closed: Progress | None


class Collector:
    """Takes snapshots of recorders, merges them over all ranks into the open window, and checks that they are finite.

    `recorders` are the losses and objectives of the module, by name. `samples_seen` counts the training samples of all
    ranks until the last snapshot. `uncounted` is the number of batches of an earlier training whose samples nobody has
    counted; they are estimated by the first batches after them.
    """

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.recorders: Mapping[str, Recorder] = {}
        self.samples_seen = 0
        self.uncounted = 0
        self.window = Window()
        self._samples = 0  # of this rank since the last snapshot
        self._batches = 0
        self._epoch: list[Named] = []
        self._training = False
        self.has_trained = False  # and not loaded what it has
        self._evaluated: dict[tuple[str, int], tuple[Snapshot, list[Kept]]] = {}
        self._suffix = ""  # of the current dataloader, if there are several
        self._shared: dict[str, tuple[Callable[[], Any], Callable[[list[Any]], None]]] = {}
        self._pending: _Pending | None = None
        self._clock = 0.0
        self._warned: set[tuple[str, str]] = set()

    def share(self, name: str, ask: Callable[[], Any], tell: Callable[[list[Any]], None]) -> None:
        """Send what `ask` returns with each snapshot of training, and pass the answers of all ranks to `tell`."""
        self._shared[name] = ask, tell

    def replace(self, recorders: Mapping[str, Recorder]) -> None:
        """Choose the recorders. One that takes the place of another takes over the values that are not read yet."""
        kept = {id(recorder) for recorder in recorders.values()}
        for name, earlier in self.recorders.items():
            if id(earlier) not in kept and name in recorders:
                recorders[name].take_over(earlier)
        self.recorders = recorders

    def forget(self) -> None:
        """Drop all recorded values that are not in the open window yet."""
        self._pending, self._evaluated, self._suffix = None, {}, ""
        self._samples = self._batches = 0
        self.drop_values()

    def drop_values(self) -> None:
        """Drop the values that have been recorded since the last snapshot."""
        self.guard.forget()
        for recorder in self.recorders.values():
            recorder.reset_avg()

    def unread(self) -> list[str]:
        """Return the names of the losses that have recorded values since the last snapshot of this rank."""
        return [name for name, recorder in self.recorders.items() if not recorder.is_empty]

    def start(self) -> None:
        """Start or resume the collection of training, and its clock."""
        self._training = self.has_trained = True
        self.guard.train(True)
        self._clock = time.monotonic()

    def stop(self) -> None:
        """Pause the collection of training, and its clock."""
        self._training = False
        self.guard.train(False)

    def count(self, samples: int) -> None:
        """Count a training batch of this rank."""
        self._samples += samples
        self._batches += 1

    def collect(self, closed: Progress | None, wait: bool) -> list[tuple[Window, Progress]]:
        """Take a snapshot of training, and return the windows that are now complete.

        With `closed`, the snapshot closes the window. Without `wait`, a snapshot that is still on its device stays
        pending until the next one.
        """
        if not self._training:
            return []
        complete = self._finished()
        now = time.monotonic()
        kept = self.guard.take()
        snapshot = Snapshot(self.recorders)
        self._pending = _Pending(snapshot, kept, self._samples, self._batches, now - self._clock, closed)
        self._clock, self._samples, self._batches = now, 0, 0
        return complete + self._finished() if wait or not snapshot.in_flight else complete

    def close(self, progress: Progress) -> list[tuple[Window, Progress]]:
        """Close the open window without a snapshot, and return it unless it is empty; uses no collective."""
        window, self.window = self.window, Window()
        return [] if window.is_empty else [(window, progress)]

    def start_epoch(self) -> None:
        """Forget the windows of an earlier epoch."""
        self._epoch = []

    def epoch(self) -> Named:
        """Return the statistics of all windows that were closed in this epoch."""
        return merged(self._epoch)

    def enter(self, suffix: str) -> None:
        """Begin a part of an evaluation, whose curves have a suffix: a dataloader, or the whole set (no suffix).

        Uses no collective, because a rank may have no batch of some dataloader.
        """
        if suffix != self._suffix:
            self._end_part()
        self._suffix = suffix

    def evaluation(self, stage: str) -> dict[str, Named]:
        """Return the statistics of an evaluation over all ranks, by the suffix of its curves.

        Takes one collective, or two if there are several dataloaders.
        """
        self._end_part()
        parts, self._evaluated, self._suffix = self._evaluated, {}, ""
        snapshots = {key: snapshot for key, (snapshot, _) in parts.items()}
        result: dict[str, list[Named]] = {}
        found = merge_ranks(snapshots, lambda key, seen: self.guard.observation(seen, parts[key][1]))
        for (suffix, number), (seen, observed) in found.items():
            self._judge(stage + suffix, seen, observed)
            called = snapshots[suffix, number].called if (suffix, number) in snapshots else set()
            self._warn_of_no_pairs(stage + suffix, {term for term in called if "loss" not in seen[term]})
            if any(seen.values()):
                result.setdefault(suffix, []).append(seen)
        return {suffix: merged(each) for suffix, each in result.items()}

    def _warn_of_no_pairs(self, stage: str, without_values: set[str]) -> None:
        """Warn once of each loss on pairs that was evaluated, but found no pair or triplet in any batch."""
        for term in sorted(without_values):
            recorder: Any = self.recorders.get(term)
            if getattr(recorder, "relational", False) and (stage, term) not in self._warned:
                self._warned.add((stage, term))
                rank_zero_warn(
                    f"{stage}: {term} ({type(recorder).__name__}) found no pair or triplet in any batch, and has no "
                    "value. It wants two samples of a class, and for triplets another class, in a batch: give the "
                    "loader batches of lossframe.data.GroupedBatchSampler, larger batches, or data of several classes"
                )

    def state_dict(self) -> dict[str, Any]:
        """Return the open window, the earlier ones of the epoch and the samples seen."""
        self._epoch = [merged(self._epoch)]  # as a resumed run has them, for the last bit depends on the order
        return {
            "samples_seen": self.samples_seen,
            "skipped": self.guard.skipped,
            "window": self.window.state(),
            "epoch": state_of(self._epoch[0]),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a `state_dict`."""
        self.samples_seen, self.guard.skipped, self.has_trained = state["samples_seen"], state["skipped"], False
        self.window = Window.from_state(state["window"])
        self.window.end = self.samples_seen
        self._epoch = [named_of(state["epoch"])]

    def _end_part(self) -> None:
        """Take a snapshot of the current part of an evaluation."""
        number = sum(suffix == self._suffix for suffix, _ in self._evaluated)
        kept = self.guard.take()
        self._evaluated[self._suffix, number] = Snapshot(self.recorders), kept

    def _finished(self) -> list[tuple[Window, Progress]]:
        """Merge the pending snapshot of all ranks into the open window. Return the window if the snapshot closes it."""
        if self._pending is None:
            return []
        pending, self._pending = self._pending, None
        counted = (pending.samples, pending.batches, [ask() for ask, _ in self._shared.values()])
        found = merge_ranks(
            {"": pending.snapshot}, lambda _, local: (counted, self.guard.observation(local, pending.kept))
        )
        seen, notes = found[""]
        samples = sum(local for (local, _, _), _ in notes)
        batches = max(local for (_, local, _), _ in notes)
        self._estimate(samples, batches)
        self.samples_seen += samples
        for index, (_, tell) in enumerate(self._shared.values()):
            tell([answers[index] for (_, _, answers), _ in notes])
        self.window.add(seen, samples, pending.seconds, self.samples_seen)
        self._judge("train", seen, [observation for _, observation in notes])
        if pending.closed is None or self.window.is_empty:
            return []
        window, self.window = self.window, Window()
        self._epoch.append(window.seen)
        if len(self._epoch) >= _WINDOWS:
            self._epoch = [merged(self._epoch)]
        return [(window, pending.closed)]

    def _estimate(self, samples: int, batches: int) -> None:
        """Add the samples of batches that nobody has counted, as many for each as in the batches since."""
        if self.uncounted and batches:
            self.samples_seen += round(self.uncounted * samples / batches)
            self.uncounted = 0

    def _judge(self, stage: str, seen: Named, observed: list[Any]) -> None:
        """Raise or warn if values of any rank are not finite; only warn while another error is on its way."""
        if sys.exc_info()[1] is None:
            warning = self.guard.judge(stage, seen, observed)
            if warning is not None:
                warnings.warn(warning, stacklevel=2)
            return
        try:
            warning = self.guard.judge(stage, seen, observed)
        except NonFiniteError as error:
            warning = str(error)
        if warning is not None:
            _log.warning(warning)  # a warning may be an error, which would hide the other
