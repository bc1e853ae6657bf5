"""Keeps lines about a run until its checks are over, so that an error stands alone."""

import sys

from lossframe.training import launch

_lines: list[str] = []


def add(what: str, text: str) -> None:
    """Keep a line, of which `what` is the first column."""
    _lines.append(f"{what:<16} {text}")


def clear() -> None:
    """Forget the lines of a command that has failed."""
    _lines.clear()


def show() -> None:
    """Print the lines that were kept, on rank 0, once."""
    if launch.is_first():
        for line in _lines:
            print(line, file=sys.stderr)
    clear()
