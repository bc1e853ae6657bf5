"""Extends Lightning's CSV logger to keep earlier rows when a run is resumed."""

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities import rank_zero_only


class ResumableCSVLogger(CSVLogger):
    """Renames an earlier `metrics.csv`, which Lightning's logger would delete, and copies the rows to keep from it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._earlier = Path(self.root_dir) / "metrics.earlier.csv"

    @property
    def experiment(self) -> Any:
        """Rename an earlier file, and return Lightning's writer, whose constructor would delete the file."""
        if self._experiment is None:
            self._set_aside()
        return super().experiment

    @rank_zero_only
    def keep(self, written: Mapping[str, int] | None) -> None:
        """Copy the rows of the earlier file: all of them, or of each stage those up to the step `written[stage]`."""
        writer = self.experiment
        if not self._earlier.exists():
            return
        with self._earlier.open(newline="") as file:
            rows = [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]
        writer.metrics = [row for row in rows if written is None or int(row["step"]) <= written.get(_stage(row), -1)]
        self.save()
        self._earlier.unlink()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Restore the earlier file if nothing was written."""
        super().finalize(status)
        if self._earlier.exists() and not self._metrics.exists():
            os.replace(self._earlier, self._metrics)
            self._experiment = None

    @property
    def _metrics(self) -> Path:
        return Path(self.log_dir) / "metrics.csv"

    @rank_zero_only
    def _set_aside(self) -> None:
        if self._metrics.exists() and not self._earlier.exists():
            os.replace(self._metrics, self._earlier)


def _stage(row: Mapping[str, str]) -> str:
    return next(key for key in row if key != "step").partition("/")[0]
