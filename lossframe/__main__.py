"""The command `lossframe`; `COMMANDS` is the table of its subcommands."""

import argparse
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from lossframe.errors import InputError, names, nearest

if TYPE_CHECKING:
    from lossframe.losses.catalogue import Entry


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


class _Parser(argparse.ArgumentParser):
    """Parses arguments; wrong ones are an `InputError`, a line without the usage."""

    def error(self, message: str) -> NoReturn:
        """Raise the message."""
        raise InputError(f"{self.prog}: {message}; see {self.prog} --help")


def parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the parser of the command line, and that of each subcommand; the arguments of `train` are Hydra's."""
    whole = _Parser(prog="lossframe", description="Losses that log themselves.")
    commands = whole.add_subparsers(dest="command", required=True)
    each: dict[str, argparse.ArgumentParser] = {
        name: commands.add_parser(name, help=command.help, description=command.help, add_help=name != "train")
        for name, command in COMMANDS.items()
    }
    for name, command in COMMANDS.items():
        command.add_arguments(each[name])
    return whole, each


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand and print its answer; return 2 if the arguments do not fit."""
    try:
        _run(sys.argv[1:] if arguments is None else arguments)
    except BrokenPipeError:  # the reader has ended, as in `lossframe losses | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (InputError, OSError) as error:
        is_of_file = isinstance(error, OSError) and error.filename is not None
        line = f"{error.filename}: {error.strerror}" if is_of_file else str(error)  # type: ignore[union-attr]
        print(f"error: {' '.join(line.split())}", file=sys.stderr)
        return 2
    return 0


def _run(words: list[str]) -> None:
    command = next(iter(words), "")
    if command == "train":
        _train(words[1:])
    elif command in ("-sc", "--shell-completion"):
        _complete(words)
    elif command in COMMANDS:
        answer = COMMANDS[command].call(parsers()[1][command].parse_intermixed_args(words[1:]))
        print(answer, end="\n" if answer else "", flush=True)
    elif command.startswith("-") or not words:
        parsers()[0].parse_args(words)
    else:
        raise InputError(f"lossframe {command}: wanted one of {names(COMMANDS)}.{nearest(command, COMMANDS)}")


def _train(arguments: list[str]) -> None:
    from lossframe.training.cli import main as train

    train(arguments)


def _evaluate(given: argparse.Namespace) -> str:
    _enter_project()
    from lossframe.training.evaluation import evaluate

    evaluate(given.run, given.overrides, given.checkpoint, given.split, given.out)
    return ""


def _predict(given: argparse.Namespace) -> str:
    _enter_project()
    from lossframe.training.predictions import predict

    columns = [each for each in given.columns.split(",") if each]
    predict(given.run, given.overrides, given.out, given.checkpoint, given.split, columns, given.force)
    return ""


def _schedule(given: argparse.Namespace) -> str:
    _enter_project()
    from lossframe.training import schedule_table

    return schedule_table.shown(given.overrides, given.points, given.out)


def _init(given: argparse.Namespace) -> str:
    from lossframe.training.configuration.project import make

    return make(given.name)


def _enter_project() -> None:
    from lossframe.training.configuration import project

    project.enter()


def _add_run(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a command that uses one trained run."""
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as of train: data=..., trainer=ddp_cpu")
    parser.add_argument("--checkpoint", default="best", metavar="best|last|FILE", help="default: best")


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    _add_run(parser)
    parser.add_argument("--split", choices=["test", "val"], default="test", help="default: test")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the metrics as JSON, too")


def _add_predict(parser: argparse.ArgumentParser) -> None:
    _add_run(parser)
    parser.add_argument("--split", choices=["test", "val", "train", "all"], default="test", help="default: test")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="FILE.csv or FILE.parquet")
    parser.add_argument("--columns", default="", metavar="NAME,...", help="entries of the frame, and loss/TERM")
    parser.add_argument("--force", action="store_true", help="replace a FILE that is there")


def _add_init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", type=Path, metavar="NAME", help="the folder to make")


def _add_losses(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="as in loss=NAME")


def _add_schedule(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as of train: schedule.center={...}")
    parser.add_argument("--points", type=int, default=13, help="rows of the table")
    parser.add_argument("--out", type=Path, metavar="FILE", help="draw a PNG, too")


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", nargs="+", type=Path, help="a run's folder, or a folder of runs, such as a sweep's")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: report.html in the folder given")


class Command(NamedTuple):
    """A subcommand: its sentence, what adds its arguments to a parser, and what runs it and returns what to print."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    call: Callable[[argparse.Namespace], str]


COMMANDS = {
    "init": Command("make a project of your own: lossframe init NAME", _add_init, _init),
    "train": Command("train a model: lossframe train --help", lambda _: None, lambda _: ""),
    "evaluate": Command("test a run's checkpoint again, also on other data", _add_evaluate, _evaluate),
    "predict": Command("write what a run's model gives for each sample", _add_predict, _predict),
    "losses": Command(
        "list the losses, or describe one", _add_losses,
        lambda given: description(given.name) if given.name else listing(),
    ),
    "schedule": Command("show the weights that schedule.TERM=... gives, without training", _add_schedule, _schedule),
    "report": Command(
        "write the curves of runs as one HTML file, without TensorBoard", _add_report,
        lambda given: report(given.run, given.output),
    ),
}  # fmt: skip


def _complete(arguments: list[str]) -> None:
    """Print completions of the line that the shell hands over in COMP_LINE, or what Hydra prints to install them."""
    program, *words = os.environ.get("COMP_LINE", "lossframe train ").split(" ")
    if len(words) < 2:
        print(" ".join(COMMANDS))
    elif words[0] == "train" or (words[0] in ("evaluate", "predict") and len(words) > 2):
        of_hydra = words[1:] if words[0] == "train" else words[2:]
        os.environ["COMP_LINE"] = " ".join([program, *of_hydra])  # Hydra strips the first word alone
        _train(arguments)


def _reads(entry: "Entry") -> list[str]:
    return [
        (f"{parameter} (the frame's {source})" if source != parameter else parameter)
        + (", optional" if parameter in entry.loss.optional else "")
        for parameter, source in entry.wiring.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
