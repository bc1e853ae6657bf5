"""Writes the curves of runs as one HTML file without TensorBoard, for `lossframe report RUN ...`."""

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from lossframe.errors import InputError

try:
    import jinja2  # noqa: F401
    import matplotlib  # noqa: F401 - drawing needs more of it
except ModuleNotFoundError as missing:
    raise InputError(
        f"report: draws with matplotlib and writes with jinja2, found no {missing.name}; install lossframe's extra "
        "'report', as in: pip install -c constraints.txt -e '.[report]'"
    ) from missing

from lossframe.report.comparison import comparison
from lossframe.report.document import Cell, Section, Table, Text, render
from lossframe.report.page import run_section
from lossframe.report.runs import find_runs, left_out, read_run, run_names
from lossframe.report.scales import BUCKETS
from lossframe.report.summary import summary


def write(folders: Sequence[Path], output: Path | None = None, warn: Callable[[str], object] = warnings.warn) -> Path:
    """Write the report on all runs at or below `folders`, and return its path.

    The default of `output` is `report.html` in the folder, or in the common parent of several. The report needs no
    other file and no network. Damaged files are read as far as possible, and `warn` is called with a text on the rest.
    Raises an `InputError` if a folder has no run, or the folder of `output` does not exist.
    """
    found = find_runs(folders)
    common = Path(os.path.commonpath([folder.resolve() for folder in folders]))
    output = output or common / "report.html"
    if output.is_dir() or not output.parent.is_dir():
        raise InputError(f"report: wanted a file in a folder that there is, found {output}; choose another --output")
    runs = [read_run(folder, name) for folder, name in zip(found, run_names(found), strict=True)]
    for note in (note for run in runs for note in run.notes if not note.usual):
        warn(f"{note.file} {note.text}")
    sections = _summary(folders) + ([comparison(runs)] if len(runs) > 1 else []) + [run_section(run) for run in runs]
    sections[0].blocks += [Text(f"{folder} is left out: it has no event files.") for folder in left_out(folders, found)]
    title = runs[0].name if len(runs) == 1 else f"{common.name}: {len(runs)} runs"
    subtitle = (
        f"From TensorBoard's event files. A curve of more than {BUCKETS:,} points is drawn as the means of {BUCKETS:,} "
        "buckets, and its bands keep each bucket's minimum and maximum. Point at a number to see all its digits."
    )
    output.write_text(render(title, subtitle, sections, {run.name: run.final_values for run in runs}), "utf-8")
    return output


def _summary(folders: Sequence[Path]) -> list[Section]:
    """Return a section with the table of configurations and their scores, if there are several runs."""
    found = summary(folders)
    if found is None:
        return []
    rows = [[Cell(text, number=index >= found.keys) for index, text in enumerate(row)] for row in found.rows]
    note = "A row is a configuration: mean and standard deviation over the runs that differ in the seed alone."
    return [Section("Summary", [Table(found.head, rows, note), *map(Text, found.notes)])]
