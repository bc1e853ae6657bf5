"""Writes the curves of train, val and test into any of Lightning's loggers."""

from pathlib import Path
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from lossframe.loggers.csv import ResumableCSVLogger
from lossframe.statistics.moments import Moments

_BARS = 64
"""How many bars a histogram has: TensorBoard shows it with about half of them."""


class StageWriter:
    """Writes scalars: into one TensorBoard run per stage, so that stages share a chart; elsewhere as `stage/tag`."""

    def __init__(self) -> None:
        self.written: dict[str, int] = {}
        self.layout: dict[str, Any] = {}
        self.resumed = False
        self._kept = False
        self._writers: dict[tuple[int, str], SummaryWriter] = {}

    def write(
        self, loggers: list[Any], stage: str, scalars: dict[str, float], values: dict[str, Moments], step: int
    ) -> None:
        """Write one point of each curve, and the histograms of values where they were counted."""
        if not self._kept:
            self._kept = True
            for logger in loggers:
                if isinstance(logger, ResumableCSVLogger):
                    logger.keep(self.written if self.resumed else None)
        for writer in self.writers(loggers, stage):
            points = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
            events: Any = writer.file_writer
            events.add_summary(Summary(value=points), step)  # in one event: `add_scalar` writes one each
            for tag, moments in values.items():
                add_histogram(writer, tag, moments, step)
            writer.flush()
        for logger in loggers:
            if not is_tensorboard(logger):
                logger.log_metrics({f"{stage}/{tag}": value for tag, value in scalars.items()}, step=step)
                logger.save()
        self.written[stage] = step

    def writers(self, loggers: list[Any], stage: str) -> list[SummaryWriter]:
        """Return the stage's writer of each TensorBoard logger; a run has no other, for TensorBoard reads only one."""
        return [self._writer(logger, stage) for logger in loggers if is_tensorboard(logger)]

    def close(self) -> None:
        """Close the event files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _writer(self, logger: Any, stage: str) -> SummaryWriter:
        """Open a stage's run; after a resume, what an earlier process wrote beyond the checkpoint is purged."""
        key = (id(logger), stage)
        if key not in self._writers:
            purge = self.written.get(stage, -1) + 1 if self.resumed else None
            writer = self._writers[key] = SummaryWriter(str(Path(logger.log_dir) / stage), purge_step=purge)
            if self.layout and [opened for opened, _ in self._writers].count(id(logger)) == 1:
                writer.add_custom_scalars(self.layout)
        return self._writers[key]


def is_tensorboard(logger: Any) -> bool:
    """Recognise TensorBoard's logger of either Lightning package, without opening a run for nothing."""
    return any(kind.__name__ == "TensorBoardLogger" for kind in type(logger).__mro__)


def add_histogram(writer: SummaryWriter, tag: str, moments: Moments, step: int) -> None:
    """Write a histogram of values as TensorBoard's bars, if they were counted."""
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
