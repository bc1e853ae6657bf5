"""Finds runs, and reads their event files, configuration, final metrics and hard samples."""

import csv
import io
import json
import os
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from lossframe.errors import InputError, names
from lossframe.report.endings import FAILED, PRUNED
from lossframe.report.events import Curve, Note, Stage, read_stage

STAGES = ("train", "val", "test")
CONFIGS = ("resolved.yaml", ".hydra/config.yaml", "hparams.yaml")
EVENTS = "*tfevents*"

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """Contents of the directory of one training run."""

    name: str
    folder: Path
    stages: dict[str, Stage]
    beside: Stage  # what Lightning's own logger wrote, over optimiser steps
    config: dict[str, Any]
    derived: frozenset[str]  # keys of the configuration that are copies of other keys, or computed from them
    overrides: list[str]
    metrics: dict[str, Any]
    hard: dict[str, list[dict[str, str]]]  # STAGE_TERM -> rows
    ending: str  # how the run ended, in words; empty if it was tested
    notes: list[Note]

    @property
    def end(self) -> float:
        """Last step of all curves except those of the HParams tab, which are one step later."""
        curves = [one.items() for one in (stage.scalars for stage in self.stages.values())]
        return max((c.steps[-1] for some in curves for tag, c in some if not tag.startswith("final/")), default=1.0)

    @property
    def tags(self) -> list[str]:
        """Tags of the curves of all stages."""
        return list(dict.fromkeys(tag for stage in self.stages.values() for tag in stage.scalars))

    @property
    def pictures(self) -> list[str]:
        """Tags of the images of all stages."""
        return list(dict.fromkeys(tag for stage in self.stages.values() for tag in stage.pictures))

    @property
    def final_values(self) -> dict[str, dict[str, float]]:
        """Latest values, stage -> tag -> value."""
        return {name: {tag: curve.last for tag, curve in stage.scalars.items()} for name, stage in self.stages.items()}

    def curve(self, stage: str, tag: str) -> Curve | None:
        """Return the curve of a stage, or None."""
        return self.stages.get(stage, Stage()).scalars.get(tag)

    def last(self, stage: str, tag: str) -> float | None:
        """Return the latest value of a curve, or without the curve the value in metrics.json."""
        found = self.curve(stage, tag)
        other = self.metrics.get(f"{stage}/{tag}")
        return found.last if found is not None else other


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """Return all runs at or below `folders`, in natural order; a folder without a run is an `InputError`."""
    found: set[Path] = set()
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"report: wanted the folder of a run or of several, found no folder {str(folder)!r}")
        files = list(folder.resolve().rglob(EVENTS))
        below = {file.parent.parent for file in files if file.parent.name in STAGES}
        if not below:
            elsewhere = f"; event files are only in {names(sorted({file.parent for file in files}))}" if files else ""
            raise InputError(
                f"report: {folder}: wanted a run, which has TensorBoard's event files ({EVENTS}) in train/, val/ or "
                f"test/, or a folder of runs; found {names(sorted(p.name for p in folder.iterdir())[:12])}{elsewhere}. "
                "A run has event files as soon as LossMonitor has written a first point"
            )
        found |= below
    return sorted(found, key=_natural)


def left_out(folders: Sequence[Path], runs: Sequence[Path]) -> list[Path]:
    """Return the folders that have the configuration of a run, but no event files."""
    configured = {c.parent.parent for folder in folders for c in folder.resolve().rglob(".hydra/config.yaml")}
    return sorted(configured - set(runs), key=_natural)


def find_jobs(folders: Sequence[Path]) -> list[Path]:
    """Return all runs at or below `folders` that record their overrides, in natural order, failed ones too."""
    files = (file for folder in folders for file in folder.resolve().rglob(".hydra/overrides.yaml"))
    return sorted({file.parent.parent for file in files}, key=_natural)


def read_run(folder: Path, name: str, curves: bool = True) -> Run:
    """Read one run, perhaps without its event files.

    Any other file than an event file that cannot be read counts as missing, with a note.
    """
    files = [stage for stage in STAGES if curves and any((folder / stage).glob(EVENTS))]
    stages = {stage: read_stage(folder / stage) for stage in files}
    beside = read_stage(folder) if curves and any(folder.glob(EVENTS)) else Stage()
    notes = [note for one in (*stages.values(), beside) for note in one.notes]
    metrics = _read(folder / "metrics.json", _metrics, notes) or {}
    return Run(
        name=name,
        folder=folder,
        stages=stages,
        beside=beside,
        config=_config(folder, notes),
        derived=_read(folder / ".hydra" / "config.yaml", _interpolated, notes) or frozenset(),
        overrides=_read(folder / ".hydra" / "overrides.yaml", _overrides, notes) or [],
        metrics=metrics,
        hard={file.stem: _read(file, _rows, notes) or [] for file in sorted(folder.glob("hard/*.csv"))},
        ending=_ending(folder, bool(metrics), notes),
        notes=notes,
    )


def run_names(runs: Sequence[Path]) -> list[str]:
    """Return the names of runs: the name of a single folder, or the paths of several below their common parent."""
    shared = Path(os.path.commonpath([run.parent for run in runs]))
    return [str(run.relative_to(shared)) for run in runs]


def _ending(folder: Path, tested: bool, notes: list[Note]) -> str:
    """Describe how a run ended: failed, pruned, or neither and without a test."""
    failed, pruned = (_read(folder / name, str.strip, notes) for name in (FAILED, PRUNED))
    return f"failed: {failed}" if failed else pruned or ("" if tested else "unfinished")


def _read(file: Path, parse: Callable[[str], T], notes: list[Note]) -> T | None:
    """Return the parsed contents of a file; None if it is missing or, with an entry in `notes`, cannot be read."""
    try:
        return parse(file.read_text("utf-8")) if file.exists() else None
    except Exception as error:  # parsers raise nearly any exception on a damaged file
        why = textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder=" ...")
        if all(note.file != file for note in notes):
            notes.append(Note(file, f"could not be read, and is left out: {why}"))
        return None


def _config(folder: Path, notes: list[Note]) -> dict[str, Any]:
    """Return the first configuration that exists and can be read, or an empty one."""
    return next((found for name in CONFIGS if (found := _read(folder / name, _configuration, notes))), {})


def _configuration(text: str) -> dict[str, Any]:
    """Parse a configuration, and hide the path of the run; one with Python objects becomes empty."""
    try:
        config = _checked(dict, yaml.safe_load(text))
    except yaml.constructor.ConstructorError as error:
        if "tag:yaml.org,2002:python/" in str(error.problem):  # Lightning writes them into hparams.yaml
            return {}
        raise
    where = config.pop("run_dir", None)
    return {str(key): _without(value, where) for key, value in config.items()}


def _without(value: Any, where: Any) -> Any:
    """Replace the path `where` in all texts of a configuration by RUN."""
    if isinstance(value, dict):
        return {str(key): _without(entry, where) for key, entry in value.items()}
    return value.replace(where, "RUN") if isinstance(value, str) and isinstance(where, str) and where else value


def _interpolated(text: str) -> frozenset[str]:
    """Return the dotted names of keys, or of whole groups of keys, that a composed configuration interpolates."""
    return frozenset(_interpolations(_checked(dict, yaml.safe_load(text)), ""))


def _interpolations(config: dict[str, Any], prefix: str) -> Iterator[str]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _interpolations(value, f"{prefix}{key}.")
        elif isinstance(value, str) and "${" in value:
            yield f"{prefix}{key}"


def _overrides(text: str) -> list[str]:
    return [str(one) for one in _checked(list, yaml.safe_load(text))]


def _metrics(text: str) -> dict[str, Any]:
    """Parse the final metrics as numbers, and the path of their checkpoint."""
    found = _checked(dict, json.loads(text))
    numbers = {tag: float(value) for tag, value in found.items() if isinstance(value, int | float)}
    return {**numbers, "checkpoint": found.get("checkpoint")}


def _rows(text: str) -> list[dict[str, str]]:
    """Parse a list of hard samples; a row with a missing cell or a value that is no number is a ValueError."""
    if not text:
        raise ValueError("wanted a head and rows, found nothing")
    rows = list(csv.DictReader(io.StringIO(text)))
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise ValueError(f"row {number} has more or fewer cells than the head")
        float(row.get("value", 0))
    return rows


def _checked(kind: type[T], found: Any) -> T:
    """Return `found` if it is an instance of `kind`, else raise a ValueError."""
    if not isinstance(found, kind):
        wanted = "a mapping" if kind is dict else "a list"
        raise ValueError(f"wanted {wanted}, found {'nothing' if found is None else type(found).__name__}")
    return found


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return a sort key of a path that orders 2_triplet before 10_triplet."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]
