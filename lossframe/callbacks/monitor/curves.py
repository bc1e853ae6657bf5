"""Turns collected statistics into curves, and passes them to the loggers and to other callbacks."""

import logging
from collections.abc import Iterable, Mapping

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_warn

from lossframe.callbacks.monitor.collector import Collector
from lossframe.callbacks.monitor.discovery import Source
from lossframe.callbacks.monitor.spikes import Spikes
from lossframe.callbacks.monitor.trainer_metrics import Results, publish, unwritten
from lossframe.callbacks.monitor.window import Progress, Window
from lossframe.errors import names
from lossframe.loggers import tags
from lossframe.loggers.position import Position
from lossframe.loggers.stage_writer import StageWriter
from lossframe.statistics.snapshot import Named, merged

_log = logging.getLogger(__name__)


class Curves:
    """Writes the curves of a module's losses whenever the collector completes a window or an evaluation.

    `sources` are the losses and objectives by name.
    """

    def __init__(self, collector: Collector, stage_writer: StageWriter, spikes: Spikes) -> None:
        self.collector = collector
        self.stage_writer = stage_writer
        self.spikes = spikes
        self.sources: dict[str, Source] = {}
        self._shown: dict[str, dict[str, float]] = {}  # the published curves of each stage, tag -> value
        self._evaluated: dict[str, Named] = {}  # by the suffix of each dataloader's curves
        self._parts: dict[str, dict[str, float]] = {}
        self._results = Results()

    def collect(self, trainer: pl.Trainer, closed: Progress | None, wait: bool) -> None:
        """Take a snapshot of training, and write the windows that are now complete; see `Collector.collect`."""
        self._write_windows(trainer, self.collector.collect(closed, wait))

    def write_window(self, trainer: pl.Trainer, progress: Progress) -> None:
        """Write the open window of a training as far as it has been drained; uses no collective."""
        if self.collector.has_trained:
            self._write_windows(trainer, self.collector.close(progress))

    def _write_windows(self, trainer: pl.Trainer, windows: Iterable[tuple[Window, Progress]]) -> None:
        for window, progress in windows:
            losses = self._shown["train"] = self._curves_of(window.seen)
            speed = {tags.SPEED: window.samples / max(window.seconds, 1e-9)}
            position = progress.position._replace(samples=window.end)
            self._write(trainer, "train", losses | progress.curves | speed, window.seen, position)
            for spike in self.spikes.found(window.seen):
                self._note(trainer, f"after {window.end} samples, {spike}", position)

    def publish_window(self, trainer: pl.Trainer) -> None:
        """Publish the curves of the last window of training."""
        publish(trainer, "train", self._shown.get("train", {}))

    def publish_epoch(self, trainer: pl.Trainer) -> None:
        """Publish the statistics of the whole epoch, for callbacks that watch training."""
        if losses := self._curves_of(self.collector.epoch()):
            publish(trainer, "train", losses, self._shown.get("train", {}))
            self._shown["train"] = losses

    def evaluate(self, trainer: pl.Trainer, stage: str) -> None:
        """Publish the curves of an evaluation, for callbacks that watch them, such as `ModelCheckpoint`."""
        self._evaluated = self.collector.evaluation(stage)
        self._results = Results.of(trainer)
        self._publish_evaluation(trainer, stage)

    def evaluate_rest(self, trainer: pl.Trainer, stage: str) -> None:
        """Add the values that were recorded since `evaluate`."""
        rest = self.collector.evaluation(stage)
        suffixes = dict.fromkeys([*self._evaluated, *rest])
        self._evaluated = {s: merged([each[s] for each in (self._evaluated, rest) if s in each]) for s in suffixes}
        self._publish_evaluation(trainer, stage)

    def write_evaluation(self, trainer: pl.Trainer, stage: str) -> None:
        """Write the curves of an evaluation, and metrics that were logged with `logger=False`."""
        self._results.update(stage, self._parts)
        seen = {f"{term}{suffix}": named for suffix, part in self._evaluated.items() for term, named in part.items()}
        scalars = unwritten(trainer, stage) | self._shown[stage]
        self._write(trainer, stage, scalars, seen, Position.of(trainer, self.collector.samples_seen))

    def _publish_evaluation(self, trainer: pl.Trainer, stage: str) -> None:
        self._parts = {suffix: self._curves_of(seen) for suffix, seen in self._evaluated.items()}
        shown = {f"{tag}{suffix}": value for suffix, part in self._parts.items() for tag, value in part.items()}
        publish(trainer, stage, shown, self._shown.get(stage, {}))
        self._shown[stage] = shown

    def _curves_of(self, seen: Named) -> dict[str, float]:
        """Return the curves of all terms from their moments, tag -> value. Terms that are no more have none."""
        gone = [term for term, named in seen.items() if named and term not in self.sources]
        if gone:
            rank_zero_warn(f"the statistics of {names(gone)} in a checkpoint are dropped: the module has no such loss")
        return curves_of(self.sources, {term: named for term, named in seen.items() if term in self.sources})

    def _write(
        self, trainer: pl.Trainer, stage: str, scalars: dict[str, float], seen: Named, position: Position
    ) -> None:
        """Write scalars and the histograms of the losses' values, on rank 0."""
        if trainer.is_global_zero:
            values = {f"{tags.VALUES}/{term}": named["loss"] for term, named in seen.items() if "loss" in named}
            self.stage_writer.write(trainer.loggers, stage, scalars, values, position)

    def _note(self, trainer: pl.Trainer, text: str, position: Position) -> None:
        """Write a note on a spike into the log and into TensorBoard's tab "text"."""
        if trainer.is_global_zero:
            _log.warning(text)
            for writer in self.stage_writer.writers(trainer.loggers, "train"):
                writer.add_text("spikes", text, position.on(self.stage_writer.x))


def curves_of(sources: Mapping[str, Source], seen: Named) -> dict[str, float]:
    """Return the curves of all terms from their moments, tag -> value."""
    shown: dict[str, float] = {}
    for term, named in seen.items():
        for name, moments in sources[term].recorder.combined(named).items():
            shown |= sources[term].recorder.series(name, moments, sources[term].tag(name))
    return shown | _shares(shown)


def _shares(curves: dict[str, float]) -> dict[str, float]:
    """Return `share/TERM` for each weighted term: its magnitude over the sum of magnitudes in its objective."""
    prefix = f"{tags.WEIGHTED}/"
    weighted = {tag[len(prefix) :]: abs(value) for tag, value in curves.items() if tag.startswith(prefix)}
    sums: dict[str, float] = {}
    for term, value in weighted.items():
        objective = term.rpartition(".")[0]
        sums[objective] = sums.get(objective, 0.0) + value
    return {f"{tags.SHARE}/{term}": value / (sums[term.rpartition(".")[0]] or 1.0) for term, value in weighted.items()}
