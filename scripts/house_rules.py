"""Check sizes of files and functions: `python scripts/house_rules.py` prints the largest, and fails beyond limits."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

LIMITS = {"file": 250, "function": 25}
"""The most lines of a file, and of code in a function: without its docstring, comments and blank lines."""
ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("lossframe", "tests", "scripts")
SHOWN = 3


def files() -> Iterator[Path]:
    """Yield the project's Python files."""
    yield ROOT / "train.py"
    for folder in FOLDERS:
        yield from sorted((ROOT / folder).rglob("*.py"))


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> int:
    """Return how many lines of code a function has, its signature included."""
    documented = ast.get_docstring(function) is not None
    docstring = range(function.body[0].lineno, (function.body[0].end_lineno or 0) + 1) if documented else range(0)
    inside = range(function.lineno, (function.end_lineno or function.lineno) + 1)
    return sum(
        1
        for number in inside
        if number not in docstring and not lines[number - 1].strip().startswith(("#",)) and lines[number - 1].strip()
    )


def sizes() -> dict[str, list[tuple[int, str]]]:
    """Return the sizes of all files and functions with where they are, the largest first."""
    found: dict[str, list[tuple[int, str]]] = {kind: [] for kind in LIMITS}
    for file in files():
        lines, name = file.read_text(encoding="utf-8").splitlines(), str(file.relative_to(ROOT))
        found["file"].append((len(lines), name))
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found["function"].append((code_lines(node, lines), f"{name}:{node.lineno} {node.name}"))
    return {kind: sorted(each, reverse=True) for kind, each in found.items()}


def main() -> int:
    """Print the largest files and functions; return 1 if one is beyond its limit."""
    failed = False
    for kind, each in sizes().items():
        beyond = [size for size, _ in each if size > LIMITS[kind]]
        failed |= bool(beyond)
        print(f"{kind}: at most {LIMITS[kind]} lines, {len(beyond)} of {len(each)} beyond")
        for size, where in each[: max(SHOWN, len(beyond))]:
            print(f"  {size:>4}  {where}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
