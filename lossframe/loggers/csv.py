"""Extends Lightning's CSV logger to keep earlier rows when a run is resumed."""

import csv
import io
import os
from collections.abc import Mapping
from typing import Any

from fsspec.implementations.local import LocalFileSystem
from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.utilities import rank_zero_only

from lossframe.loggers.files import join, write_text
from lossframe.loggers.position import Position
from lossframe.loggers.tags import EPOCH, SAMPLES

Row = dict[str, str]


class AppendingWriter(ExperimentWriter):
    """Extends Lightning's writer to leave the file whole, and keep the rows that wait, if the disk is full."""

    def save(self) -> None:
        """Append the rows that wait; a file that gets new columns is written anew, and replaced in one step."""
        if not self.metrics:
            return
        self._fs.makedirs(self.log_dir, exist_ok=True)  # the folder may have vanished
        exists = self._fs.isfile(self.metrics_file_path)
        if self._record_new_keys() or not exists:
            self.replace([*self.rows(), *self.metrics])
        else:
            self._append(self._text(self.metrics, header=False))
        self.metrics = []

    def rows(self) -> list[Row]:
        """Return the rows of the file, without empty entries."""
        if not self._fs.isfile(self.metrics_file_path):
            return []
        with self._fs.open(self.metrics_file_path, "r", newline="") as file:
            return [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]

    def replace(self, rows: list[Any]) -> None:
        """Write the whole file anew."""
        write_text(self.metrics_file_path, self._text(rows, header=True))

    def _append(self, text: str) -> None:
        size = self._fs.size(self.metrics_file_path)
        try:
            with self._fs.open(self.metrics_file_path, "a", newline="") as file:
                file.write(text)
        except OSError:
            if isinstance(self._fs, LocalFileSystem):
                os.truncate(self.metrics_file_path, size)  # half a row would be followed by the next one
            raise

    def _text(self, rows: list[Any], header: bool) -> str:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.metrics_keys)
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


class ResumableCSVLogger(CSVLogger):
    """Renames an earlier `metrics.csv`, which Lightning's logger would delete, and copies the rows to keep from it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._earlier = join(self.root_dir, "metrics.earlier.csv")

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Rename an earlier file, and return a writer, whose constructor would delete the file."""
        if self._experiment is None:
            self._set_aside()
            self._fs.makedirs(self.root_dir, exist_ok=True)
            self._experiment = AppendingWriter(self.log_dir)
        return self._experiment

    @rank_zero_only
    def keep(self, ends: Mapping[str, Position], resumed: Position | None) -> None:
        """Copy the rows of the earlier file: all of them, or those that a training that is resumed does not repeat.

        These are the LossMonitor's rows up to the position `ends[stage]`, all of tests, and other rows up to `resumed`.
        """
        writer = self.experiment
        if not self._fs.exists(self._earlier):
            return
        with self._fs.open(self._earlier, "r", newline="") as file:
            rows = [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]
        if resumed is not None:
            rows = [row for row in rows if self._is_before(row, ends, resumed)]
        writer.metrics = rows + writer.metrics
        self.save()
        self._fs.rm_file(self._earlier)

    @rank_zero_only
    def forget(self, stage: str, position: Position) -> None:
        """Drop the rows of a stage at a position, which an earlier process wrote."""
        place, rows = (stage, f"{position.samples}"), self.experiment.rows()
        kept = [row for row in rows if (self._stage(row), row.get(f"{self._own_prefix}{SAMPLES}")) != place]
        if len(kept) < len(rows):
            self.experiment.replace(kept)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Restore the earlier file if nothing was written."""
        super().finalize(status)
        if self._fs.exists(self._earlier) and not self._fs.exists(self._metrics):
            self._fs.mv(self._earlier, self._metrics)
            self._experiment = None

    @property
    def _metrics(self) -> str:
        return join(self.log_dir, "metrics.csv")

    @rank_zero_only
    def _set_aside(self) -> None:
        if self._fs.exists(self._metrics) and not self._fs.exists(self._earlier):
            self._fs.mv(self._metrics, self._earlier)

    def _is_before(self, row: Row, ends: Mapping[str, Position], resumed: Position) -> bool:
        """Return whether a row was written before the checkpoint from which training is resumed."""
        prefix = self._own_prefix
        if f"{prefix}{SAMPLES}" not in row:
            return int(row["step"]) <= resumed.steps
        stage = self._stage(row)
        return stage == "test" or (stage in ends and int(row[f"{prefix}{SAMPLES}"]) <= ends[stage].samples)

    def _stage(self, row: Row) -> str:
        """Return the stage of a row; no text for a row without curves."""
        tags = [key.removeprefix(self._own_prefix) for key in row if key != "step"]
        return next((tag.partition("/")[0] for tag in tags if tag not in (SAMPLES, EPOCH)), "")

    @property
    def _own_prefix(self) -> str:
        return f"{self._prefix}{self.LOGGER_JOIN_CHAR}" if self._prefix else ""
