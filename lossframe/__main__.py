"""`python -m lossframe losses [NAME]`: what losses there are, and what one of them computes.

`python -m lossframe report RUN ...`: the curves of runs as one HTML file.
"""

import argparse
import sys
import textwrap
from pathlib import Path

from lossframe.errors import InputError
from lossframe.losses import catalogue


def listing() -> str:
    """Return a line for each loss: name, class and sentence."""
    entries = catalogue.entries()
    wide = max(len(entry.name) for entry in entries), max(len(entry.loss.__name__) for entry in entries)
    return "\n".join(f"{e.name:<{wide[0]}}  {e.loss.__name__:<{wide[1]}}  {e.sentence}" for e in entries)


def description(entry: catalogue.Entry) -> str:
    """Return what one loss computes, and how it is configured."""
    reads = [
        (f"{parameter} (the frame's {source})" if source != parameter else parameter)
        + (", optional" if parameter in entry.loss.optional else "")
        for parameter, source in entry.wiring.items()
    ]
    parts = {
        "formula": [entry.formula],
        "details": textwrap.wrap(entry.details, 96),
        "reads": reads or ["nothing of the frame"],
        "parameters": [f"loss.{entry.name}.{name}={value}" for name, value in entry.parameters.items()] or ["none"],
        "source": [f"{title}, {link}" for title, link in entry.source],
        "coming from": [f"{o.library} {o.function}: {o.difference}" for o in catalogue.origins(entry.loss)],
    }
    kind = "relational: it sees the batch of all ranks" if entry.loss.relational else "separable"
    lines = [f"{entry.name}  {entry.loss.__name__}, {kind}", f"{entry.sentence}.", ""]
    for title, content in parts.items():
        lines += [f"{title if i == 0 else '':<12} {line}" for i, line in enumerate(content)]
    return "\n".join(lines)


def report(folders: list[Path], output: Path | None) -> str:
    """Write the report, and say where it is; say on stderr what could not be read."""
    from lossframe.report import write  # noqa: PLC0415 - matplotlib is an optional dependency

    return f"report           {write(folders, output, warn=lambda text: print(f'warning: {text}', file=sys.stderr))}"


def parser() -> argparse.ArgumentParser:
    """Return what is understood on the command line."""
    whole = argparse.ArgumentParser(prog="python -m lossframe", description="What lossframe has to offer.")
    commands = whole.add_subparsers(dest="command", required=True)
    losses = commands.add_parser("losses", help="list the losses, or describe one")
    losses.add_argument("name", nargs="?", help="as in loss=NAME")
    losses.set_defaults(call=lambda given: description(catalogue.find(given.name)) if given.name else listing())
    reporting = commands.add_parser("report", help="write the curves of runs as one HTML file, without TensorBoard")
    reporting.add_argument("run", nargs="+", type=Path, help="a run's folder, or a folder of runs, such as a sweep's")
    reporting.add_argument("--output", type=Path, metavar="FILE", help="default: report.html in the folder given")
    reporting.set_defaults(call=lambda given: report(given.run, given.output))
    return whole


def main(arguments: list[str] | None = None) -> int:
    """Do one command and print its answer; return 2 if what was given does not fit."""
    given = parser().parse_args(arguments)
    try:
        print(given.call(given))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
