"""`python -m lossframe losses [NAME]`: what losses there are, and what one of them computes."""

import argparse
import sys
import textwrap

from lossframe import catalogue
from lossframe.errors import InputError


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


def main(arguments: list[str] | None = None) -> int:
    """Print to the terminal; return 2 for a name that does not exist."""
    parser = argparse.ArgumentParser(prog="python -m lossframe", description="What lossframe has to offer.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("losses", help="list the losses, or describe one")
    command.add_argument("name", nargs="?", help="as in loss=NAME")
    name = parser.parse_args(arguments).name
    try:
        print(description(catalogue.find(name)) if name else listing())
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
