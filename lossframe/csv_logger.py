"""Lightning's CSV logger, whose rows survive a resume."""

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities import rank_zero_only


class ResumableCSVLogger(CSVLogger):
    """Sets an earlier process' `metrics.csv` aside, where Lightning's would delete it, and keeps what is asked for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._earlier = Path(self.root_dir) / "metrics.earlier.csv"
        self._set_aside()

    @rank_zero_only
    def _set_aside(self) -> None:
        metrics = Path(self.log_dir) / "metrics.csv"
        if metrics.exists() and not self._earlier.exists():
            os.replace(metrics, self._earlier)

    @rank_zero_only
    def keep(self, written: Mapping[str, int] | None) -> None:
        """Take over the earlier rows, or of each stage (the columns' first part) those up to `written[stage]`."""
        if not self._earlier.exists():
            return
        with self._earlier.open(newline="") as file:
            rows = [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]
        writer: Any = self.experiment
        writer.metrics = [row for row in rows if written is None or int(row["step"]) <= written.get(_stage(row), -1)]
        self.save()
        self._earlier.unlink()


def _stage(row: Mapping[str, str]) -> str:
    return next(key for key in row if key != "step").partition("/")[0]
