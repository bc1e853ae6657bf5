"""Turns collected statistics into curves, and passes them to the loggers and to other callbacks."""

import logging
from collections.abc import Mapping

import pytorch_lightning as pl

from lossframe.callbacks.monitor.collector import Collector
from lossframe.callbacks.monitor.discovery import Source
from lossframe.callbacks.monitor.spikes import Spikes
from lossframe.callbacks.monitor.trainer_metrics import publish, unwritten
from lossframe.loggers import tags
from lossframe.loggers.stage_writer import StageWriter
from lossframe.statistics.snapshot import Named

_log = logging.getLogger(__name__)


class Curves:
    """Writes the curves of a module's losses whenever the collector completes a window or an evaluation.

    `sources` are the losses and objectives by name. `shown` holds the latest curves of each stage, tag -> value.
    """

    def __init__(self, collector: Collector, stage_writer: StageWriter, spikes: Spikes) -> None:
        self.collector = collector
        self.stage_writer = stage_writer
        self.spikes = spikes
        self.sources: dict[str, Source] = {}
        self.shown: dict[str, dict[str, float]] = {}
        self._evaluated: Named = {}

    def collect(self, trainer: pl.Trainer, curves: dict[str, float] | None, wait: bool) -> None:
        """Take a snapshot of training, and write the windows that are now complete; see `Collector.collect`."""
        for window, beside in self.collector.collect(curves, wait):
            losses = self.shown["train"] = curves_of(self.sources, window.seen)
            speed = {tags.SPEED: window.samples / max(window.seconds, 1e-9)}
            self._write(trainer, "train", losses | beside | speed, window.seen, window.end)
            for spike in self.spikes.found(window.seen):
                self._note(trainer, f"after {window.end} samples, {spike}", window.end)

    def evaluate(self, trainer: pl.Trainer, stage: str) -> None:
        """Publish the curves of an evaluation for callbacks that watch them, such as `ModelCheckpoint`."""
        if trainer.sanity_checking:
            return
        shown: dict[str, float] = {}
        self._evaluated = {}
        for suffix, seen in self.collector.evaluation(stage).items():
            self._evaluated |= {f"{term}{suffix}": named for term, named in seen.items()}
            shown |= {f"{tag}{suffix}": value for tag, value in curves_of(self.sources, seen).items()}
        publish(trainer, stage, shown, self.shown.get(stage, {}))
        self.shown[stage] = shown

    def write_evaluation(self, trainer: pl.Trainer, stage: str) -> None:
        """Write the curves of an evaluation, and metrics that were logged with `logger=False`."""
        if not trainer.sanity_checking:
            scalars = unwritten(trainer, stage) | self.shown[stage]
            self._write(trainer, stage, scalars, self._evaluated, self.collector.samples_seen)

    def _write(self, trainer: pl.Trainer, stage: str, scalars: dict[str, float], seen: Named, step: int) -> None:
        """Write scalars and the histograms of the losses' values, on rank 0."""
        if trainer.is_global_zero:
            values = {f"{tags.VALUES}/{term}": named["loss"] for term, named in seen.items() if "loss" in named}
            self.stage_writer.write(trainer.loggers, stage, scalars, values, step)

    def _note(self, trainer: pl.Trainer, text: str, step: int) -> None:
        """Write a note on a spike into the log and into TensorBoard's tab "text"."""
        if trainer.is_global_zero:
            _log.warning(text)
            for writer in self.stage_writer.writers(trainer.loggers, "train"):
                writer.add_text("spikes", text, step)


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
