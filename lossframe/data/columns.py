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

    def encode(self, table: Mapping[str, Column], train: Tensor) -> Tensor:
        """Return the inputs [N, F] of a table, in float64."""
        self._check(table)
        rows = train.numpy()
        inputs, gaps, unknown = [], dict[str, int](), dict[str, int]()
        for name, column in table.items():
            if missing := int(column.isna().sum()):
                gaps[name] = missing
            if is_number(column) or is_truth(column):
                inputs.append(self._numbers(name, column, rows))
            else:
                encoded, unknown[name] = self._categories(name, column, rows)
                inputs += encoded
        _warn(gaps, unknown)
        return torch.from_numpy(np.stack(inputs, axis=1))

    def _numbers(self, name: str, column: Column, train: NDArray[np.int64]) -> Numbers:
        values: Numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
        beyond = np.abs(values) > np.finfo(np.float32).max  # also of infinity, and not of NaN
        if beyond.any():
            raise InputError(
                f"column {name!r}: wanted numbers that float32 holds, found {values[beyond][0]} in row "
                f"{int(beyond.argmax()) + 1}; mend the file, or add {self.ignoring([name])}"
            )
        known = values[train][~np.isnan(values[train])]
        if not len(known):
            raise InputError(f"column {name!r} has no value in the training rows; add {self.ignoring([name])}")
        self.names.append(name)
        self.scaled.append(is_number(column))
        return np.where(np.isnan(values), known.mean(), values)

    def _categories(self, name: str, column: Column, train: NDArray[np.int64]) -> tuple[list[Numbers], int]:
        """Return an input for each category of the training rows, and how many other rows have another category."""
        texts = column.astype(str).to_numpy(dtype=object)
        present = column.notna().to_numpy()
        categories = sorted(set(texts[train][present[train]]))
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
        texts = {name: column for name, column in table.items() if not is_number(column) and not is_truth(column)}
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
