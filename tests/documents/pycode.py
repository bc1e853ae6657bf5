"""Runs the Python blocks of a page, and compares the values that their comments claim."""

import ast
import re
from collections.abc import Mapping
from typing import Any

_LITERAL = re.compile(r"\s*(\{.*\}|\[.*\]|\(.*\))")


def execute(text: str, page: str, line: int, names: dict[str, Any]) -> None:
    """Execute a block, statement by statement; errors name the page and the line.

    An expression with a comment such as `# {"loss": ...}` must have that value, where `...` stands for anything.
    """
    lines = text.splitlines()
    for statement in ast.parse(text).body:
        last = lines[(statement.end_lineno or 1) - 1]
        ast.increment_lineno(statement, line - 1)
        if isinstance(statement, ast.Expr):
            value = eval(compile(ast.Expression(statement.value), page, "eval"), names)
            for wanted in claimed(last):
                assert agrees(value, wanted), f"{page}:{statement.lineno}: {last.strip()}, found {value}"
        else:
            exec(compile(ast.Module([statement], []), page, "exec"), names)


def claimed(line: str) -> list[Any]:
    """Return the value in the comment of a line, in a list; nothing if the comment is prose."""
    found = _LITERAL.match(line.rpartition("  # ")[2]) if "  # " in line else None
    try:
        return [ast.literal_eval(found[1])] if found else []
    except (SyntaxError, ValueError):
        return []


def agrees(value: Any, wanted: Any) -> bool:
    """Return whether a value is the one that is wanted, in which `...` stands for anything."""
    if wanted is ...:
        return True
    if isinstance(wanted, dict):
        return isinstance(value, Mapping) and value.keys() == wanted.keys() and all(
            agrees(value[key], each) for key, each in wanted.items()
        )  # fmt: skip
    if isinstance(wanted, list | tuple):
        return len(value) == len(wanted) and all(map(agrees, value, wanted))
    return bool(value == wanted)
