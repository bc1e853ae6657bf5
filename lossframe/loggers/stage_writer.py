"""Writes the curves of train, val and test into all loggers of a trainer."""

from pathlib import Path
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from lossframe.loggers.csv import ResumableCSVLogger
from lossframe.statistics.moments import Moments

_BARS = 64
"""Number of bars of a histogram, of which TensorBoard shows about half."""


class StageWriter:
    """Writes points of curves: into one TensorBoard run per stage, so that stages share charts, else as `stage/tag`.

    `written` holds the last step of each stage, `layout` the charts of the tab "custom scalars". `resumed` says whether
    points beyond `written` are purged.
    """

    def __init__(self) -> None:
        self.written: dict[str, int] = {}
        self.layout: dict[str, Any] = {}
        self.resumed = False
        self._kept = False
        self._writers: dict[tuple[int, str], SummaryWriter] = {}

    def write(
        self, loggers: list[Any], stage: str, scalars: dict[str, float], values: dict[str, Moments], step: int
    ) -> None:
        """Write one point of each curve in `scalars`, and the histograms in `values`."""
        if not self._kept:
            self._kept = True
            for logger in loggers:
                if isinstance(logger, ResumableCSVLogger):
                    logger.keep(self.written if self.resumed else None)
        for writer in self.writers(loggers, stage):
            points = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
            events: Any = writer.file_writer
            events.add_summary(Summary(value=points), step)  # `add_scalar` would write one event per curve
            for tag, moments in values.items():
                add_histogram(writer, tag, moments, step)
            writer.flush()
        for logger in loggers:
            if not is_tensorboard(logger):
                logger.log_metrics({f"{stage}/{tag}": value for tag, value in scalars.items()}, step=step)
                logger.save()
        self.written[stage] = step

    def writers(self, loggers: list[Any], stage: str) -> list[SummaryWriter]:
        """Return the writer of a stage for each TensorBoard logger; TensorBoard reads only one event file of a run."""
        return [self._writer(logger, stage) for logger in loggers if is_tensorboard(logger)]

    def close(self) -> None:
        """Close the event files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _writer(self, logger: Any, stage: str) -> SummaryWriter:
        """Return the writer of a stage. Opening it in a resumed training purges points beyond the checkpoint."""
        key = (id(logger), stage)
        if key not in self._writers:
            purge = self.written.get(stage, -1) + 1 if self.resumed else None
            writer = self._writers[key] = SummaryWriter(str(Path(logger.log_dir) / stage), purge_step=purge)
            if self.layout and [opened for opened, _ in self._writers].count(id(logger)) == 1:
                writer.add_custom_scalars(self.layout)
        return self._writers[key]


def is_tensorboard(logger: Any) -> bool:
    """Return whether a logger is the TensorBoardLogger of either Lightning package, without opening a run."""
    return any(kind.__name__ == "TensorBoardLogger" for kind in type(logger).__mro__)


def add_histogram(writer: SummaryWriter, tag: str, moments: Moments, step: int) -> None:
    """Write a histogram as TensorBoard's bars, unless values were not counted or not finite."""
    if moments.histogram is None or not len(moments.histogram.counts) or moments.nonfinite:
        return
    limits, counts = moments.histogram.bars(_BARS, moments.min, moments.max)
    squares = moments.m2 + moments.count * moments.mean**2
    writer.add_histogram_raw(
        tag,
        min=moments.min,
        max=moments.max,
        num=int(moments.count),
        sum=moments.mean * moments.count,
        sum_squares=squares,
        bucket_limits=limits.tolist(),
        bucket_counts=counts.tolist(),
        global_step=step,
    )
