"""The command `lossframe`: `train` a model, list the `losses` or describe one, write a `report` of runs."""

import argparse
import os
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from lossframe.errors import InputError, names, nearest

if TYPE_CHECKING:
    from lossframe.losses.catalogue import Entry

COMMANDS = ("train", "losses", "report")


def listing() -> str:
    """Return a line for each loss: name, class and sentence."""
    from lossframe.losses import catalogue

    entries = catalogue.entries()
    wide = max(len(entry.name) for entry in entries), max(len(entry.loss.__name__) for entry in entries)
    return "\n".join(f"{e.name:<{wide[0]}}  {e.loss.__name__:<{wide[1]}}  {e.sentence}" for e in entries)


def description(name: str) -> str:
    """Return what the loss of a name computes, and how it is configured."""
    from lossframe.losses import catalogue

    entry = catalogue.find(name)
    parts = {
        "formula": [entry.formula],
        "details": textwrap.wrap(entry.details, 96),
        "reads": _reads(entry) or ["nothing of the frame"],
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
    """Write the report and return the line that says where, after the summary of several runs.

    What could not be read is printed on stderr.
    """
    from lossframe.report.summary import show, summary

    if found := summary(folders):
        show(found)
    from lossframe.report.writing import write

    return f"report           {write(folders, output, warn=lambda text: print(f'warning: {text}', file=sys.stderr))}"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; the arguments of `train` are Hydra's."""
    whole = argparse.ArgumentParser(prog="lossframe", description="Losses that log themselves.")
    commands = whole.add_subparsers(dest="command", required=True)
    commands.add_parser("train", help="train a model: lossframe train --help", add_help=False)
    losses = commands.add_parser("losses", help="list the losses, or describe one")
    losses.add_argument("name", nargs="?", help="as in loss=NAME")
    losses.set_defaults(call=lambda given: description(given.name) if given.name else listing())
    reporting = commands.add_parser("report", help="write the curves of runs as one HTML file, without TensorBoard")
    reporting.add_argument("run", nargs="+", type=Path, help="a run's folder, or a folder of runs, such as a sweep's")
    reporting.add_argument("--output", type=Path, metavar="FILE", help="default: report.html in the folder given")
    reporting.set_defaults(call=lambda given: report(given.run, given.output))
    return whole


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand and print its answer; return 2 if the arguments do not fit."""
    words = sys.argv[1:] if arguments is None else arguments
    command = next(iter(words), "")
    try:
        if command == "train":
            _train(words[1:])
        elif command in ("-sc", "--shell-completion"):
            _complete(words)
        elif command.startswith("-") or command in COMMANDS or not words:
            given = parser().parse_args(words)
            print(given.call(given), flush=True)
        else:
            raise InputError(f"lossframe {command}: wanted one of {names(COMMANDS)}.{nearest(command, COMMANDS)}")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader has ended, as in `lossframe losses | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _train(arguments: list[str]) -> None:
    from lossframe.training.cli import main as train

    train(arguments)


def _complete(arguments: list[str]) -> None:
    """Print completions of the line that the shell hands over in COMP_LINE, or what Hydra prints to install them."""
    program, *words = os.environ.get("COMP_LINE", "lossframe train ").split(" ")
    if len(words) < 2:
        print(" ".join(COMMANDS))
    elif words[0] == "train":
        os.environ["COMP_LINE"] = " ".join([program, *words[1:]])  # Hydra strips the first word alone
        _train(arguments)


def _reads(entry: "Entry") -> list[str]:
    return [
        (f"{parameter} (the frame's {source})" if source != parameter else parameter)
        + (", optional" if parameter in entry.loss.optional else "")
        for parameter, source in entry.wiring.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
