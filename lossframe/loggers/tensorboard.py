"""Extends Lightning's TensorBoard logger, and writes event files of stages into the directory of such a logger."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import FileWriter, SummaryWriter
from torch.utils.tensorboard.summary import custom_scalars

from lossframe.loggers.event_file import EventFile
from lossframe.loggers.files import join
from lossframe.loggers.tolerance import Tolerance
from lossframe.statistics.moments import Moments

Layout = Mapping[str, Mapping[str, tuple[str, list[str]]]]
"""Category -> title of a chart -> its kind with its tags, which are regular expressions in a "Multiline" chart."""

_BARS = 64
"""Number of bars of a histogram, of which TensorBoard shows about half."""


class StageFile(SummaryWriter):
    """Writes the event file of one stage into the directory of a TensorBoard logger, with the logger's prefix on tags.

    `purge_step` hides the points from this step on that an earlier process wrote; `tolerance` decides about errors.
    """

    def __init__(self, logger: Any, stage: str, purge_step: int | None, tolerance: Tolerance) -> None:
        self.tolerance = tolerance
        prefix: str = getattr(logger, "_prefix", "")
        self.prefix = f"{prefix}{logger.LOGGER_JOIN_CHAR}" if prefix else ""
        options: dict[str, Any] = getattr(logger, "_kwargs", {})
        super().__init__(join(logger.log_dir, stage), **(options | {"purge_step": purge_step}))

    def add_points(self, scalars: Mapping[str, float], step: int) -> None:
        """Write one point of each of many curves as one event; `add_scalar` would write one event per curve."""
        points = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._get_file_writer().add_summary(Summary(value=points), step)

    def add_moments(self, tag: str, moments: Moments, step: int) -> None:
        """Write the histogram of moments as TensorBoard's bars, unless values were not counted or not finite."""
        if moments.histogram is None or not len(moments.histogram.counts) or moments.nonfinite:
            return
        limits, counts = moments.histogram.bars(_BARS, moments.min, moments.max)
        self.add_histogram_raw(
            tag,
            min=moments.min,
            max=moments.max,
            num=int(moments.count),
            sum=moments.mean * moments.count,
            sum_squares=moments.m2 + moments.count * moments.mean**2,
            bucket_limits=limits.tolist(),
            bucket_counts=counts.tolist(),
            global_step=step,
        )

    def add_embedding(
        self, mat: Any, metadata: Any = None, label_img: Any = None, global_step: Any = None, tag: str = "default",
        metadata_header: Any = None,
    ) -> None:  # fmt: skip
        """Write embeddings for the projector, which finds them by files and not by events."""
        super().add_embedding(mat, metadata, label_img, global_step, self.prefix + tag, metadata_header)

    def add_custom_scalars(self, layout: Layout) -> None:
        """Write the layout of the tab "custom scalars", which TensorBoard finds by a tag without prefix."""
        prefixes = {"Margin": self.prefix, "Multiline": re.escape(self.prefix)}
        charts = {
            category: {title: [kind, [prefixes[kind] + tag for tag in tags]] for title, (kind, tags) in each.items()}
            for category, each in layout.items()
        }
        self.add_unprefixed(custom_scalars(charts))

    def add_unprefixed(self, summary: Any) -> None:
        """Write a summary whose tags say which tab of TensorBoard reads it."""
        self._get_file_writer().add_unprefixed(summary)

    def _get_file_writer(self) -> Any:
        """Return the writer through which all `add_*` methods write their events; the first one may purge a step."""
        if self.file_writer is None:
            file = EventFile(self.log_dir, self.filename_suffix, self.tolerance)
            writer: Any = _Writer(file, self.prefix)
            vars(self).update(file_writer=writer, all_writers={self.log_dir: writer})
            if self.purge_step is not None:
                writer.add_event(Event(file_version="brain.Event:2"), self.purge_step)
                writer.add_event(Event(session_log=SessionLog(status=SessionLog.START)), self.purge_step)
                self.purge_step = None
        return self.file_writer


class _Writer(FileWriter):
    """Turns summaries into events of a file, and puts a prefix before their tags."""

    def __init__(self, file: EventFile, prefix: str) -> None:
        self.event_writer = file
        self.prefix = prefix

    def add_summary(self, summary: Any, global_step: Any = None, walltime: Any = None) -> None:
        """Add the values of a summary."""
        for value in summary.value:
            value.tag = self.prefix + value.tag
        super().add_summary(summary, global_step, walltime)

    def add_unprefixed(self, summary: Any) -> None:
        """Add the values of a summary whose tags have a meaning of their own."""
        super().add_summary(summary)


class LazyTensorBoardLogger(TensorBoardLogger):
    """Names the directory of a run, and opens an event file and an hparams.yaml there only at the first write.

    Lightning's logger opens both when a trainer starts, so that TensorBoard lists an empty run next to the stages.
    """

    @property
    def experiment(self) -> Any:
        """Return a proxy of Lightning's writer, which opens the event file at its first use."""
        return _WhenUsed(lambda: super(LazyTensorBoardLogger, self).experiment)

    def save(self) -> None:
        """Flush the event file, if it is open."""
        if self._experiment is not None:
            super().save()


class _WhenUsed:
    """Forwards attributes to an object that `make` creates at the first use."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> Any:
        return getattr(self._make(), name)


def is_tensorboard(logger: Any) -> bool:
    """Return whether a logger is the TensorBoardLogger of either Lightning package, without opening a run."""
    return any(kind.__name__ == "TensorBoardLogger" for kind in type(logger).__mro__)
