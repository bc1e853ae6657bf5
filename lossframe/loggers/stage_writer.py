"""Writes the curves of train, val and test into all loggers of a trainer."""

from collections.abc import Mapping
from typing import Any

from lossframe.loggers.csv import ResumableCSVLogger
from lossframe.loggers.position import Position, check_axis
from lossframe.loggers.tags import EPOCH, SAMPLES
from lossframe.loggers.tensorboard import Layout, StageFile, is_tensorboard
from lossframe.loggers.tolerance import Tolerance
from lossframe.statistics.moments import Moments


class StageWriter:
    """Writes points of curves: into one TensorBoard run per stage, so that stages share charts, else as `stage/tag`.

    `x` is the x axis in TensorBoard: "samples", "steps" or "epochs". A row of any other logger has Lightning's step,
    which rows that the module logs itself have too, and columns `samples_seen` and `epoch`. `written` holds the last
    position of each stage as plain numbers, `layout` the charts of the tab "custom scalars". `resumed` is the position
    at which a training was resumed, see `resume`.
    """

    def __init__(self, x: str = "samples") -> None:
        self.x = check_axis(x)
        self.written: dict[str, tuple[int, ...]] = {}
        self.layout: Layout = {}
        self.resumed: Position | None = None
        self._ends: dict[str, Position] = {}
        self._purged: set[tuple[int, str]] = set()
        self._kept = False
        self._files: dict[tuple[int, str], StageFile] = {}
        self._tolerances: dict[int, Tolerance] = {}

    def write(
        self,
        loggers: list[Any],
        stage: str,
        scalars: Mapping[str, float],
        values: Mapping[str, Moments],
        position: Position,
    ) -> None:
        """Write one point of each curve in `scalars`, and the histograms in `values`."""
        self.keep_rows(loggers)
        for file in [self._file(logger, stage, position) for logger in loggers if is_tensorboard(logger)]:
            file.add_points(scalars, position.on(self.x))
            for tag, moments in values.items():
                file.add_moments(tag, moments, position.on(self.x))
            file.flush()
        row = {f"{stage}/{tag}": value for tag, value in scalars.items()}
        row |= {SAMPLES: position.samples, EPOCH: position.epochs}
        for logger in loggers:
            if stage == "test" and self.resumed is not None and isinstance(logger, ResumableCSVLogger):
                logger.forget(stage, position)
            if not is_tensorboard(logger):
                logger.log_metrics(row, step=position.steps)
                logger.save()
        self.written[stage] = tuple(position)

    def resume(self, position: Position | None) -> None:
        """Replace what an earlier process wrote beyond `written`, and its test of the same weights; None: nothing."""
        self.resumed = position
        self._ends = {stage: Position(*place) for stage, place in self.written.items()}
        self._purged = set()

    def keep_rows(self, loggers: list[Any]) -> None:
        """Restore the rows of an earlier process in CSV files, at the first write."""
        if self._kept:
            return
        self._kept = True
        for logger in loggers:
            if isinstance(logger, ResumableCSVLogger):
                logger.keep(self._ends, self.resumed)

    def writers(self, loggers: list[Any], stage: str) -> list[StageFile]:
        """Return the event file of a stage for each TensorBoard logger; TensorBoard reads only one of a run."""
        return [self._file(logger, stage) for logger in loggers if is_tensorboard(logger)]

    def close(self) -> None:
        """Close the event files."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        self._kept = False

    def _file(self, logger: Any, stage: str, position: Position | None = None) -> StageFile:
        """Return the event file of a stage. Opening it in a resumed training purges points beyond the checkpoint."""
        key = (id(logger), stage)
        if key not in self._files:
            purge = self._purge_step(stage, position) if key not in self._purged else None
            self._purged.add(key)
            tolerance = self._tolerances.setdefault(id(logger), Tolerance(f"TensorBoard in {logger.log_dir}"))
            file = self._files[key] = StageFile(logger, stage, purge, tolerance)
            if self.layout and [opened for opened, _ in self._files].count(id(logger)) == 1:
                file.add_custom_scalars(self.layout)
        return self._files[key]

    def _purge_step(self, stage: str, position: Position | None) -> int | None:
        """Return the place from which points of an earlier process are replaced; None: none are."""
        if self.resumed is None:
            return None
        if stage == "test":  # whose points no checkpoint knows
            return None if position is None else position.on(self.x)
        return self._ends[stage].on(self.x) + 1 if stage in self._ends else 0
