"""Computes the points that `LossMonitor` must write from the journal of one rank."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from monitor_module import Entry

Calls = dict[str, list[list[float]]]
TAGS = {"extra": "first/extra", "centred_extra": "centred/extra"}


@dataclass(frozen=True)
class Policy:
    """Says where the monitor puts values for which more than one place is right."""

    batch_end_in_window: bool = False
    """Whether a window holds what the module's `on_train_batch_end` records after the window's last batch."""
    joined_epoch_end: bool = False
    """Whether a window that ends with the last batch of an epoch also holds what `on_train_epoch_end` records."""
    evaluation_end: bool = True
    """Whether the point of an evaluation holds what the module's `on_validation_end` records."""


POLICY = Policy()


@dataclass
class Point:
    """Holds the recorded values of one point of all curves of a stage, by tag and by call."""

    stage: str
    samples: int
    calls: Calls
    closed: int
    """Index of the journal's entry that completes the point."""
    optional: bool = False


@dataclass
class Check:
    """Holds metrics that a callback has read, and the values of which they must be means: one of `candidates`."""

    what: str
    metrics: dict[str, float]
    candidates: list[Calls]
    index: int
    """Index of the journal's entry."""


@dataclass
class Oracle:
    """Divides the journal of one rank into the points of all curves."""

    log_every: int
    policy: Policy
    loaders: int = 1
    points: list[Point] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    samples: int = 0
    batches: int = 0
    _size: int = 0
    _in_batch: bool = False
    _index: int = 0
    _has_batches: bool = False
    """Whether a batch has ended since the last point of training."""
    _cut: Calls | None = None
    """What a checkpoint holds of the open window."""
    _window: Calls = field(default_factory=dict)
    _epoch: Calls | None = field(default_factory=dict)
    _epoch_end: Calls = field(default_factory=dict)
    _epoch_start: Calls = field(default_factory=dict)
    _evaluation: Calls = field(default_factory=dict)
    _evaluated: list[Calls] = field(default_factory=list)
    _edge: Calls = field(default_factory=dict)

    def read(self, journal: Sequence[Entry]) -> "Oracle":
        """Read all entries."""
        for self._index, entry in enumerate(journal):
            match entry.stage:
                case "train":
                    self._train(entry)
                case "val" | "test":
                    self._evaluate(entry)
                case "outside":
                    self._outside(entry)
                case "saved":
                    self._saved(entry)
                case "observed":
                    self._observe(entry)
        return self

    def _train(self, entry: Entry) -> None:
        if entry.hook == "training_step":
            self._size, self._in_batch = entry.samples, True
        calls = _tagged(entry, 1)
        if entry.hook == "on_train_batch_end":
            self._end_batch(calls)
            return
        self._go_on(entry)
        _add(self._window, calls)
        if entry.hook == "on_train_epoch_end":
            self._epoch_end = calls
            self._close("train", self._window, joined=self.policy.joined_epoch_end)
        elif entry.hook == "on_train_start":
            _add(self._epoch_start, calls)
        elif entry.hook == "on_train_epoch_start":
            self._epoch = calls
        elif self._epoch is not None:
            _add(self._epoch, calls)

    def _end_batch(self, calls: Calls) -> None:
        self.samples, self.batches, self._size = self.samples + self._size, self.batches + 1, 0
        self._has_batches = True
        self._in_batch = False
        if self._epoch is not None:
            _add(self._epoch, calls)
        if self.policy.batch_end_in_window:
            _add(self._window, calls)
        if self.batches % self.log_every == 0:
            self._close("train", self._window)
        if not self.policy.batch_end_in_window:
            _add(self._window, calls)

    def _evaluate(self, entry: Entry) -> None:
        late = re.fullmatch("on_(validation|test)_(end|model_train)", entry.hook)
        if late and not self._edge:
            self._edge = _copy(self._evaluation)
        if self.policy.evaluation_end or not late:
            _add(self._evaluation, _tagged(entry, self.loaders))
        if entry.hook.endswith("model_train"):
            self._evaluated = [{**self._evaluation}, self._edge]
            self._edge = {}
            self._close(entry.stage, self._evaluation)

    def _outside(self, entry: Entry) -> None:
        if entry.hook == "on_train_end":
            if self._cut is not None:
                self._window, self._cut, later = self._cut, None, self._window
                _add(self._window, later)
            _add(self._window, _tagged(entry, 1))
            self._close("train", self._window)

    def _saved(self, entry: Entry) -> None:
        """Read where a checkpoint was saved, from which training resumes without the later hooks of the batch."""
        self._epoch, self._epoch_start = None, {}
        if entry.hook == "on_train_batch_end" and self._in_batch:
            self._end_batch({})
        self._evaluation = {}
        if self._has_batches:
            self._cut, self._window = self._window, {}

    def _go_on(self, entry: Entry) -> None:
        """Read how training resumes: with a new epoch, before which the window ends, or within the epoch."""
        if self._cut is None or entry.hook not in ("on_train_batch_start", "on_train_epoch_end"):
            return
        cut, self._cut = self._cut, None
        if entry.number == 0:
            self._close("train", cut)
        else:
            self._window, later = cut, self._window
            _add(self._window, later)

    def _observe(self, entry: Entry) -> None:
        if entry.hook == "returned":
            candidates = self._evaluated
        elif entry.hook == "on_validation_end":
            candidates = [_copy(self._evaluation)]
        elif self._epoch is None:  # resumed within the epoch
            return
        else:
            candidates = [_copy(self._epoch) for _ in range(4)]  # with and without what surrounds the epoch
            for candidate, parts in zip(candidates, ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True):
                for part, taken in zip((self._epoch_start, self._epoch_end), parts, strict=True):
                    _add(candidate, part if taken else {})
            self._epoch_start = {}
        self.checks.append(Check(entry.hook, entry.metrics, candidates, self._index))

    def _close(self, stage: str, calls: Calls, joined: bool = False) -> None:
        """Complete a point with the calls, which are removed; `joined` to the last one if no batch is between."""
        point = Point(stage, self.samples, {**calls}, self._index)
        calls.clear()
        self._has_batches = self._has_batches and stage != "train"
        last = next((each for each in reversed(self.points) if each.stage == stage), None)
        if joined and last and last.samples == self.samples:
            _add(last.calls, point.calls)
            last.closed = self._index
        else:
            self.points.append(point)


def _tagged(entry: Entry, loaders: int) -> Calls:
    """Return the calls of an entry by tag, with the suffix of its dataloader if there are several."""
    suffix = f"/dataloader_idx_{entry.loader}" if loaders > 1 and entry.loader is not None else ""
    return {TAGS.get(term, term) + suffix: list(calls) for term, calls in entry.calls.items()}


def _copy(calls: Calls) -> Calls:
    return {tag: list(each) for tag, each in calls.items()}


def _add(to: Calls, calls: Calls) -> None:
    for tag, values in calls.items():
        to[tag] = to.get(tag, []) + values
