"""Turns the columns of a table into numbers: numbers as they are, categories as one column each."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from lossframe.errors import InputError, names

_FEW = 20  # categories of a column that are always accepted
_ROWS_PER_CATEGORY = 10  # at least, of a column with more categories
Column = Any
"""A column of a `pandas.DataFrame`."""
Numbers = NDArray[np.float64]
Learnt = dict[str, tuple[float, bool] | list[str]]
"""What training rows say of a column: its categories; or the mean of its values, and whether they are numbers."""


def typed(key: str, values: Iterable[object]) -> str:
    """Return an override that sets a key to a list, as it is typed in a shell.

    >>> typed("data.ignore", ["id", "Unnamed: 0"])
    '\\'data.ignore=[id,"Unnamed: 0"]\\''
    """
    texts = [str(value) for value in values]
    listed = ",".join(
        text if re.fullmatch(r"[A-Za-z_]\w*", text) else json.dumps(text, ensure_ascii=False) for text in texts
    )
    return f"'{key}=[{listed}]'".replace("'", "'") if re.search(r"\W", listed) else f"{key}=[{listed}]"


def is_number(column: Column) -> bool:
    """Return whether a column holds numbers alone, and gaps; truth values are not numbers."""
    return column.dtype.kind in "iuf"


def is_truth(column: Column) -> bool:
    """Return whether a column holds true and false alone, and gaps."""
    found = column.dropna()
    return column.dtype.kind == "b" or (len(found) > 0 and all(isinstance(value, bool) for value in found))


class Encoder:
    """Turns columns into inputs, fitted on training rows: `names` of the inputs, and which of them are `scaled`.

    A column of numbers is one input, whose gaps are the mean of the training rows. Of true and false, it is 1 and 0. A
    column of text becomes one input for each category of the training rows, 1 for the rows of this category and else
    0, also for a gap and for another category. Gaps and such categories are counted in a warning. A column that cannot
    be an input is an `InputError`; `ignoring` returns the override that leaves columns out.
    """

    def __init__(self, ignoring: Callable[[Sequence[str]], str]) -> None:
        self.ignoring = ignoring
        self.names: list[str] = []
        self.scaled: list[bool] = []

    def learn(self, table: Mapping[str, Column], train: Tensor) -> Learnt:
        """Return what training rows say of each column: its categories, or the mean of its numbers."""
        self._check(table)
        rows = train.numpy()
        return {
            name: (self._mean(name, column, rows), is_number(column))
            if _is_numeric(column)
            else _categories(column, rows)
            for name, column in table.items()
        }

    def encode(self, table: Mapping[str, Column], learnt: Learnt) -> Tensor:
        """Return the inputs [N, F] of a table by what was learnt of its columns, in float64."""
        inputs, gaps, unknown = [], dict[str, int](), dict[str, int]()
        for name, known in learnt.items():
            column = table[name]
            if missing := int(column.isna().sum()):
                gaps[name] = missing
            if isinstance(known, list):
                encoded, unknown[name] = self._of_categories(name, column, known)
                inputs += encoded
            else:
                inputs.append(self._numbers(name, column, *known))
        _warn(gaps, unknown)
        return torch.from_numpy(np.stack(inputs, axis=1))

    def _mean(self, name: str, column: Column, train: NDArray[np.int64]) -> float:
        known = self._values(name, column)[train]
        if np.isnan(known).all():
            raise InputError(f"column {name!r} has no value in the training rows; add {self.ignoring([name])}")
        return float(known[~np.isnan(known)].mean())

    def _numbers(self, name: str, column: Column, mean: float, scaled: bool) -> Numbers:
        if not (is_number(column) if scaled else is_truth(column)) and (found := column.dropna()).size:
            wanted = "numbers" if scaled else "true and false"
            raise InputError(f"column {name!r}: wanted {wanted}, as in training, found {str(found.iloc[0])!r}")
        values = self._values(name, column)
        self.names.append(name)
        self.scaled.append(scaled)
        return np.where(np.isnan(values), mean, values)

    def _values(self, name: str, column: Column) -> Numbers:
        values: Numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
        beyond = np.abs(values) > np.finfo(np.float32).max  # also of infinity, and not of NaN
        if beyond.any():
            raise InputError(
                f"column {name!r}: wanted numbers that float32 holds, found {values[beyond][0]} in row "
                f"{int(beyond.argmax()) + 1}; mend the file, or add {self.ignoring([name])}"
            )
        return values

    def _of_categories(self, name: str, column: Column, categories: list[str]) -> tuple[list[Numbers], int]:
        """Return an input for each category, and how many rows have another category."""
        texts, present = column.astype(str).to_numpy(dtype=object), column.notna().to_numpy()
        self.names += [f"{name}={category}" for category in categories]
        self.scaled += [False] * len(categories)
        return [((texts == category) & present).astype(np.float64) for category in categories], int(
            (present & ~np.isin(texts, categories)).sum()
        )

    def _check(self, table: Mapping[str, Column]) -> None:
        constant = [name for name, column in table.items() if column.nunique() < 2]
        if constant:
            raise InputError(f"{_columns(constant)}: the same in all rows; add {self.ignoring(constant)}")
        if counting := [name for name, column in table.items() if _counts_rows(column)]:
            raise InputError(f"{_columns(counting)}: the number of the row; add {self.ignoring(counting)}")
        texts = {name: column for name, column in table.items() if not _is_numeric(column)}
        for name, column in texts.items():
            check_text(name, column)
        many = {name: column.nunique() for name, column in texts.items()}
        many = {
            name: count for name, count in many.items() if count > max(_FEW, len(texts[name]) // _ROWS_PER_CATEGORY)
        }
        many |= {name: column.nunique() for name, column in texts.items() if column.nunique() == len(column)}
        if many:
            counted = ", ".join(f"{name!r} ({count})" for name, count in many.items())
            rows = len(next(iter(texts.values())))
            raise InputError(
                f"text with too many different values to be categories, in {rows} rows: {counted}; add "
                f"{self.ignoring(list(many))}"
            )


def check_text(name: str, column: Column) -> None:
    """Raise an `InputError` if most values of a text column are numbers, or are with a decimal comma."""
    texts = column.dropna().astype(str)
    for pattern, remedy in (
        (r"\s*-?\d+,\d+\s*", "set 'data.decimal=\",\"', if these are decimal commas"),
        (
            r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*",
            "mend these rows, or leave them empty where a number is missing",
        ),
    ):
        fits = texts.str.fullmatch(pattern)
        if fits.mean() > 0.5:
            shown, rows = (texts[~fits], texts.index[~fits]) if not fits.all() else (texts, texts.index)
            raise InputError(
                f"column {name!r}: wanted numbers, found {int(fits.sum())} of {len(texts)} values that look like "
                f"numbers, and text such as {shown.iloc[0]!r} in row {rows[0] + 1}; {remedy}"
            )


def _is_numeric(column: Column) -> bool:
    return is_number(column) or is_truth(column)


def _categories(column: Column, train: NDArray[np.int64]) -> list[str]:
    """Return the texts of a column in the training rows, sorted."""
    texts, present = column.astype(str).to_numpy(dtype=object), column.notna().to_numpy()
    return sorted(set(texts[train][present[train]]))


def _counts_rows(column: Column) -> bool:
    """Return whether a column of text or numbers is 0, 1, 2, ... or 1, 2, 3, ..."""
    if column.dtype.kind not in "iu" or len(column) < 3 or column.iloc[0] not in (0, 1):
        return False
    return bool((np.diff(column.to_numpy()) == 1).all())


def _warn(gaps: Mapping[str, int], unknown: Mapping[str, int]) -> None:
    if gaps:
        counted = ", ".join(f"{name!r} ({count})" for name, count in gaps.items())
        rank_zero_warn(
            f"missing values in {counted}: a missing number becomes the mean of the training rows, and a row without a "
            "category has none"
        )
    if other := {name: count for name, count in unknown.items() if count}:
        counted = ", ".join(f"{name!r} ({count})" for name, count in other.items())
        rank_zero_warn(f"categories that no training row has in {counted}: these rows have no category there")


def _columns(found: Sequence[str]) -> str:
    return f"column{'s' if len(found) > 1 else ''} {names(found)}"
