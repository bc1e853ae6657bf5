"""Builds the section of the report on one run."""

from collections.abc import Iterable, Mapping, Sequence

import yaml

from lossframe.loggers import tags
from lossframe.report import drawing
from lossframe.report.config import facts
from lossframe.report.document import Block, Cell, Facts, Folded, Image, Section, Table, Text, number
from lossframe.report.drawing import COLOURS, Line
from lossframe.report.events import Curve
from lossframe.report.runs import STAGES, Run
from lossframe.statistics import series

ROWS = 20
"""Number of hard samples that are shown of a list."""


def run_section(run: Run) -> Section:
    """Return the section of one run, without parts that the run did not log."""
    terms = tags.terms(run.tags)
    progress = [tag for tag in run.tags if tags.is_progress(tag)]
    pictures = [tag for tag in run.pictures if not any(_is_hard(tag, term) for term in terms)]
    parts = [
        Section("Objective", _objective(run, terms)),
        *(Section(f"Term {term}", _term(run, term)) for term in terms),
        Section("Metrics", _multiples(run, tags.metrics(run.tags), "Metrics over samples seen")),
        Section("Pictures", _images(run, pictures)),
        Section("Optimisation", _multiples(run, progress, "How training went over samples seen")),
        Section("Logged by others", _beside(run)),
    ]
    return Section(f"Run {run.name}", _overview(run), [part for part in parts if part.blocks])


def _overview(run: Run) -> list[Block]:
    """Return the configuration and the results of the run."""
    entries = facts(run.config)
    checkpoint = run.metrics.get("checkpoint")
    entries |= {"overrides": [" ".join(run.overrides)]} if run.overrides else {}
    entries |= {"best checkpoint": [str(checkpoint)]} if checkpoint else {}
    entries |= {"samples seen": [f"{run.end:,.0f}"], "folder": [str(run.folder)]}
    shown = [tag for tag in tags.means(run.tags) if tag.startswith(f"{tags.LOSS}/")] + tags.metrics(run.tags)
    rows = [[Cell(tag), *(number(run.last(stage, tag)) for stage in STAGES)] for tag in shown]
    note = "The latest point of each curve" + ("; test is of the best checkpoint." if checkpoint else ".")
    blocks: list[Block] = [*_notes(run), Facts(entries), Table(["", *STAGES], rows, note)]
    if run.config:
        blocks.append(Folded("the whole configuration", yaml.safe_dump(run.config, sort_keys=False)))
    return blocks


def _notes(run: Run) -> list[Text]:
    """Return the notes on files that could not be read."""
    return [Text(f"{note.file.relative_to(run.folder)} {note.text}", warning=not note.usual) for note in run.notes]


def _objective(run: Run, terms: Sequence[str]) -> list[Block]:
    """Return charts of the total and of each term's part; nothing for a single term of constant weight."""
    weights = [curve for term in terms if (curve := run.curve("train", f"{tags.WEIGHT}/{term}")) is not None]
    if len(terms) < 2 and all(curve.values.min() == curve.values.max() for curve in weights):
        return []
    panels = {
        f"{kind}, {stage}": drawing.overlaid({term: run.curve(stage, f"{kind}/{term}") for term in terms})
        for kind in ("weighted", "share", "weight")
        for stage in ("train", "val")
    }
    shows = "What each term contributes to the total: its weighted mean, its share, its weight"
    return [*_bands(run, tags.of_loss(tags.TOTAL)), *_small(run, panels, shows)]


def _term(run: Run, term: str) -> list[Block]:
    """Return the blocks of one term: curves, quantiles, distributions, further logged values, hard samples."""
    tag, values = tags.of_loss(term), f"{tags.VALUES}/{term}"
    blocks = _bands(run, tag)
    quantiles = drawing.quantiles(tag, _statistics(run, tag), run.end)
    histograms = {stage: one.histograms[values] for stage, one in run.stages.items() if values in one.histograms}
    histograms = {stage: found for stage, found in histograms.items() if stage != "test"} or histograms
    blocks += [quantiles] if quantiles else []
    blocks += [drawing.distribution(tag, histograms, run.end)] if histograms else []
    blocks += _multiples(run, tags.extras(run.tags, term), f"What {term} logs beside its loss")
    return blocks + _images(run, [tag for tag in run.pictures if _is_hard(tag, term)]) + _hard_tables(run, term)


def _bands(run: Run, tag: str) -> list[Block]:
    """Return a chart of one tag with bands and a table of the latest statistics, or only the curve without any."""
    found = _statistics(run, tag)
    if all(len(curves) == 1 for curves in found.values()):
        return _multiples(run, [tag], f"{tag} over samples seen")
    columns = ["mean", *(name for name in series.suffixes() if any(name in curves for curves in found.values()))]
    rows = [
        [Cell(stage), *(number(curves[name].last if name in curves else None) for name in columns)]
        for stage, curves in found.items()
    ]
    return [drawing.bands(tag, found, run.end), Table(["latest", *columns], rows)]


def _statistics(run: Run, tag: str) -> dict[str, dict[str, Curve]]:
    """Return the curves of one tag, stage -> statistic -> curve, for the stages that have its mean."""
    names = {"mean": tag} | {name: f"{tag}_{name}" for name in series.suffixes()}
    return {
        stage: {name: one.scalars[full] for name, full in names.items() if full in one.scalars}
        for stage, one in run.stages.items()
        if tag in one.scalars
    }


def _multiples(run: Run, shown: Iterable[str], shows: str) -> list[Block]:
    """Return a figure with a small chart per tag."""
    panels = {
        tag: [Line(s, COLOURS[s], curve) for s in run.stages if (curve := run.curve(s, tag)) is not None]
        for tag in shown
    }
    return _small(run, panels, shows)


def _small(run: Run, panels: Mapping[str, Sequence[Line]], shows: str) -> list[Block]:
    """Return a figure of the panels that have lines, or nothing."""
    drawn = {title: lines for title, lines in panels.items() if lines}
    return [drawing.multiples(drawn, run.end, shows)] if drawn else []


def _beside(run: Run) -> list[Block]:
    """Return charts of what the LightningModule has logged itself, over optimiser steps."""
    curves = {tag: curve for tag, curve in run.beside.scalars.items() if tag not in ("epoch", "hp_metric")}
    if not curves:
        return []
    end = max(curve.steps[-1] for curve in curves.values())
    panels = {tag: [Line("logged", COLOURS["train"], curve)] for tag, curve in curves.items()}
    return [drawing.multiples(panels, end, "What the module logged itself, over steps", over="step")]


def _images(run: Run, shown: Iterable[str]) -> list[Block]:
    """Return the latest image of each tag and stage."""
    return [
        Image(picture, f"{tag}, {stage}, after {picture.step:,} samples")
        for tag in shown
        for stage, one in run.stages.items()
        if (picture := one.pictures.get(tag)) is not None
    ]


def _hard_tables(run: Run, term: str) -> list[Block]:
    """Return the latest list of hard samples of each stage, and the list of the most frequent ones."""
    blocks: list[Block] = []
    for file in (f"{stage}_{term}{which}" for stage in STAGES for which in ("", "_often")):
        rows = run.hard.get(file, [])
        if rows:
            shown = [[_cell(value) for value in row.values()] for row in rows[:ROWS]]
            left = f": the first {ROWS} of {len(rows)}" if len(rows) > ROWS else ""
            blocks += [Text(f"Hard samples, from hard/{file}.csv{left}"), Table(list(rows[0]), shown)]
    return blocks


def _cell(text: str | None) -> Cell:
    """Return a cell of a CSV file, with decimal fractions shortened."""
    text = text or ""
    try:
        value = float(text)
    except ValueError:
        return Cell(text)
    return number(value) if "." in text or "e" in text else Cell(text, number=True)


def _is_hard(tag: str, term: str) -> bool:
    return tag == f"hard/{term}" or tag.startswith(f"hard/{term}/")
