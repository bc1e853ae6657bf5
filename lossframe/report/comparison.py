"""Builds the section of the report that compares several runs."""

import math
from collections.abc import Sequence

from lossframe.loggers import tags
from lossframe.report import drawing
from lossframe.report.config import differences, lower_is_better, measured
from lossframe.report.document import NOTHING, Block, Cell, Section, Table, Text, number
from lossframe.report.runs import Run


def comparison(runs: Sequence[Run]) -> Section:
    """Return a section with a table of differences and results, and charts of the curves that several runs share."""
    known = list(dict.fromkeys(tag for run in runs for tag in run.tags))
    losses = [tags.of_loss(term) for term in tags.terms(known)]
    metrics = tags.metrics(known)
    shared = [tag for tag in metrics + losses if sum(tag in run.tags for run in runs) > 1]
    alone = [tag for tag in metrics + losses if tag not in shared]
    blocks: list[Block] = [_table(runs, metrics + [tag for tag in losses if tag in shared]), *_notes(runs)]
    for tag in shared:
        panels = {
            f"{tag}, {stage}": drawing.overlaid({run.name: run.curve(stage, tag) for run in runs})
            for stage in ("train", "val")
        }
        panels = {title: lines for title, lines in panels.items() if lines}
        if panels:
            end = max(run.end for run in runs)
            blocks.append(
                drawing.multiples(panels, end, f"{tag} of each run over samples seen", columns=2, shared=True)
            )
    if alone:
        blocks.append(Text(f"In one run only, and drawn there: {', '.join(alone)}."))
    return Section("Comparison", blocks)


def _notes(runs: Sequence[Run]) -> list[Text]:
    """Return a warning for each run with damaged files, whose latest values may be missing."""
    damaged = [run.name for run in runs if not all(note.usual for note in run.notes)]
    return [Text(f"Not all of {name} could be read: its section says what not.", warning=True) for name in damaged]


def _table(runs: Sequence[Run], shown: Sequence[str]) -> Table:
    """Return a table with a row per run, and columns of differing keys and of results."""
    configs = [run.config for run in runs]
    head, columns = ["run"], [[Cell(run.name) for run in runs]]
    for key, values in differences(configs, [run.derived for run in runs]).items():
        head.append(key)
        columns.append([Cell(NOTHING if value is None else value) for value in values])
    for stage, tag in ((stage, tag) for tag in shown for stage in ("val", "test")):
        scores = [run.last(stage, tag) for run in runs]
        if any(score is not None for score in scores):
            head.append(f"{stage} {tag}")
            columns.append(_marked(runs, tag, scores))
    note = (
        "val is the latest point; test is of the best checkpoint, where train.py made the run. The best of the runs "
        "that were measured alike, on one split of the same data, is marked: the lowest loss or error, the highest of "
        "other metrics."
    )
    return Table(head, list(zip(*columns, strict=True)), note)


def _marked(runs: Sequence[Run], tag: str, scores: Sequence[float | None]) -> list[Cell]:
    """Return the cells of a column; of runs that measure the same, two or more, the best is marked."""
    best_of = min if lower_is_better([run.config for run in runs], tag) else max
    groups: dict[str, list[float]] = {}
    for run, score in zip(runs, scores, strict=True):
        if score is not None and not math.isnan(score):
            groups.setdefault(measured(run.config, tag), []).append(score)
    best = {measures: best_of(found) for measures, found in groups.items() if len(found) > 1}
    return [
        number(score, best=score is not None and score == best.get(measured(run.config, tag)))
        for run, score in zip(runs, scores, strict=True)
    ]
