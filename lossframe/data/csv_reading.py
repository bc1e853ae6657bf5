"""Reads a CSV file into a table, and says what is wrong with a file that cannot be read."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lossframe.errors import InputError, names

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}
"""Names of usual separators, for a command line where some of them are hard to type."""


def read(path: Path, separator: str | None = None, decimal: str = ".", texts: Sequence[str] = ()) -> Any:
    """Return a CSV file as a `pandas.DataFrame`; without a separator, the header's most frequent one is taken.

    Columns in `texts` are text also where their values look like numbers.

    An `InputError` says what is wrong with the file.
    """
    try:
        import pandas as pd  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise InputError("CsvFile reads its file with pandas: pip install lossframe[data]") from error
    try:
        table = _parsed(path, separator, decimal, texts, pd)
    except UnicodeDecodeError as error:
        where = f"{path} is not UTF-8, as byte {error.start} shows"
        raise InputError(f"{where}; save it as UTF-8, as by iconv -f latin1 -t utf-8") from error
    except pd.errors.EmptyDataError as error:
        raise InputError(f"{path} is empty: wanted a header with the names of the columns, and rows") from error
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        found = f"{path}: rows do not have the columns of the header ({str(error).strip()})"
        raise InputError(f"{found}; mend them, or set data.separator") from error
    if not len(table):
        raise InputError(f"{path} has a header, but no rows")
    return table


def _parsed(path: Path, separator: str | None, decimal: str, texts: Sequence[str], pd: Any) -> Any:
    header = _header(path, pd)
    chosen = separator or max(SEPARATORS, key=lambda name: header.count(SEPARATORS[name]))
    options: dict[str, Any] = {
        "sep": SEPARATORS.get(chosen, chosen),
        "decimal": decimal,
        "encoding": "utf-8-sig",
        "index_col": False,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # of rows that are longer than the header
        first = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False, **options)
        _check_header(path, [str(name) for name in first.iloc[0]], options["sep"])
        return pd.read_csv(path, low_memory=False, dtype=dict.fromkeys(texts, str), **options)


def _header(path: Path, pd: Any) -> str:
    """Return the first line of a file that may be compressed."""
    with pd.io.common.get_handle(path, "r", encoding="utf-8-sig", compression="infer") as opened:
        return str(opened.handle.readline())


def _check_header(path: Path, found: list[str], separator: str) -> None:
    if twice := sorted({name for name in found if found.count(name) > 1}):
        raise InputError(f"{path}: wanted a name of its own for each column, found {names(twice)} twice; rename one")
    if len(found) == 1:
        others = [name for name, other in SEPARATORS.items() if other != separator and other in found[0]]
        said = " or ".join(f"data.separator={name}" for name in others)
        raise InputError(
            f"{path}: wanted columns that data.separator={separator!r} separates, found one, {found[0]!r}"
            + (f"; set {said}" if said else "")
        )
