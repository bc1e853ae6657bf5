"""A test that a resumed run repeats replaces the row of the first one."""

import csv
from pathlib import Path

import pytest

from lossframe.loggers.csv import ResumableCSVLogger
from lossframe.loggers.position import Position
from lossframe.loggers.stage_writer import StageWriter

END = Position(80, 1, 0)


@pytest.mark.filterwarnings("ignore:.*exists and is not empty:UserWarning")
def test_repeated_test_of_a_resumed_run_has_one_row(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        logger, writer = ResumableCSVLogger(tmp_path, name="", version="csv"), StageWriter()
        if value == 1:
            writer.write([logger], "train", {"loss/a": 0.5}, {}, END)
        else:
            writer.written = {"train": tuple(END)}
            writer.resume(END)
        writer.write([logger], "test", {"loss/a": value}, {}, END)
    with (tmp_path / "csv" / "metrics.csv").open() as file:
        assert [row["test/loss/a"] for row in csv.DictReader(file)] == ["", "2.0"]
