"""Writes columns of numbers and names as a CSV or a Parquet file."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lossframe.errors import InputError

Columns = dict[str, np.ndarray[Any, Any]]
"""Column name -> `[n]`, or `[n, width]` for the columns NAME_0, NAME_1, ..."""


def check(path: Path, force: bool) -> None:
    """Raise an `InputError` unless a table can be written to a path."""
    if path.suffix not in (".csv", ".parquet"):
        raise InputError(f"--out {path}: wanted FILE.csv or FILE.parquet")
    if not path.absolute().parent.is_dir():
        raise InputError(f"--out {path}: wanted a file in a folder that is there, found no {path.parent}")
    if path.exists() and not force:
        raise InputError(f"--out {path}: wanted a new file, found one that is there; replace it by --force")
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise InputError(f"--out {path}: wanted pyarrow; pip install lossframe[table], or use .csv") from error


def write(path: Path, parts: Iterable[Columns]) -> None:
    """Write parts of a table one after another; the file is there once it is complete."""
    new = path.with_name(f"{path.name}.new")
    (_write_csv if path.suffix == ".csv" else _write_parquet)(new, parts)
    new.replace(path)


def _write_csv(path: Path, parts: Iterable[Columns]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for number, columns in enumerate(parts):
            single = dict(_single(columns))
            if number == 0:
                writer.writerow(single)
            # as text, a float32 has no more digits than tell it from others
            writer.writerows(zip(*(column.astype(str).tolist() for column in single.values()), strict=True))


def _write_parquet(path: Path, parts: Iterable[Columns]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    for columns in parts:
        table = pa.table({name: pa.array(column) for name, column in _single(columns)})
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def _single(columns: Columns) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Yield each column, and those of a matrix as NAME_0, NAME_1 and so on."""
    for name, column in columns.items():
        if column.ndim == 1:
            yield name, column
        else:
            yield from ((f"{name}_{k}", column[:, k]) for k in range(column.shape[1]))
