"""Reads a table from a CSV file: what its columns hold, and whether the target is a number or a class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor

from lossframe.counts import check_given_counts
from lossframe.data.columns import Column, Encoder, check_text, is_number, is_truth, typed
from lossframe.data.csv_reading import read
from lossframe.data.in_memory import DataOptions
from lossframe.data.splits import Splits, everything, split_as_said
from lossframe.data.tabular import TabularData
from lossframe.errors import InputError, names, nearest

_TASKS = ("auto", "regression", "classification")
_MOST_CLASSES = 20  # of whole numbers that are taken for classes
_LEAST = 3  # samples of a class, one each for training, validation and test


class CsvOptions(DataOptions, total=False):
    """Options of a CSV file, in addition to those of every data set.

    `columns`: the columns that are inputs (all but the target).
    `ignore`: columns to leave out ([]).
    `task`: "regression" or "classification", or "auto" (default) for what the target's values look like.
    `split_column`: a column with "train", "val" or "test" in each row, in place of the fractions.
    `separator`: "comma", "semicolon", "tab", "bar" or any other (default: what the header has most of).
    `decimal`: the decimal point (".").
    """

    columns: Sequence[str] | None
    ignore: Sequence[str]
    task: str
    split_column: str | None
    separator: str | None
    decimal: str


class CsvFile(TabularData):
    """Loads a CSV file with a header, UTF-8: `target` names the column to predict, all others are the inputs.

    A target of numbers gives `target` float32 [B], standardised over the training samples by `target_mean` and
    `target_std`. A target of text, of true and false, or of few whole numbers gives `labels` int64 [B], numbered as
    `class_names`, and for two classes `target` float32 too. `column_names` are those of the inputs; see `Encoder`, and
    for the options `CsvOptions`. Data of a trained run need no target.
    """

    def __init__(
        self,
        path: str | Path,
        target: str,
        num_inputs: int | None = None,
        num_outputs: int | None = None,
        num_classes: int | None = None,
        **options: Unpack[CsvOptions],
    ) -> None:
        self.columns, ignored = options.pop("columns", None), options.pop("ignore", ())
        self.columns = [self.columns] if isinstance(self.columns, str) else self.columns
        self.ignore = [ignored] if isinstance(ignored, str) else list(ignored)
        self.task = options.pop("task", "auto")
        self.split_column = options.pop("split_column", None)
        self.separator = options.pop("separator", None)
        self.decimal = options.pop("decimal", ".")
        super().__init__(num_inputs, num_outputs, **options)  # type: ignore[misc]
        _check_options(self.task, self.decimal)
        check_given_counts(self, num_classes=num_classes)
        self.path, self.target, self.num_classes = Path(path), target, num_classes
        self.class_names: list[str] = []
        self.target_mean, self.target_std = 0.0, 1.0
        self.column_names: list[str] = []
        self._encoder = Encoder(lambda found: typed("data.ignore", [*self.ignore, *found]))
        self._divided: Splits = {}

    @property
    def provides(self) -> frozenset[str]:  # type: ignore[override]
        """The entries of a batch, which depend on the file."""
        self.setup()
        return frozenset({*self.frame, "index"})

    def load(self) -> dict[str, Tensor]:
        """Return inputs and target of all rows; an `InputError` says what is wrong with the file."""
        table = read(self.path, self.separator, self.decimal, self._texts())
        inputs = self._inputs(list(table))
        is_known = self.target in table and not (self.is_whole and table[self.target].isna().all())
        frame = self._targets(table[self.target]) if is_known else {}
        self.class_names = self.fit("class_names", list)
        self._divided = everything(len(table)) if self.is_whole else self._divide(table, frame)
        learnt = self.fit("columns", lambda: self._encoder.learn(table[inputs], self._divided["train"]))
        frame = {"inputs": self._encoder.encode(table, learnt), **frame}
        self.column_names = self._encoder.names
        kind = f"{len(self.class_names)} classes" if self.class_names else "a number"
        self.found = (
            f"{self.path}: {len(table)} rows, {self.target} is {kind}; {len(self.column_names)} inputs from the "
            f"columns {', '.join(inputs)}"
        )
        return frame

    def describe(self, frame: Any) -> dict[str, Any]:
        """Return the numbers of inputs, outputs and classes; a number to predict has no classes."""
        classes = len(self.class_names) or None
        return {"num_inputs": frame["inputs"].shape[1], "num_outputs": classes or 1, "num_classes": classes}

    def divide(self, frame: Any) -> Splits:
        """Return the splits by the column that says it, or else by the fractions, stratified by class."""
        return self._divided

    def prepare(self, frame: dict[str, Tensor], train: Tensor) -> dict[str, Tensor]:
        """Scale numbers, and a target without classes, to mean 0 and standard deviation 1 over the training rows."""
        scaled = self.standardised("inputs", frame["inputs"], train)
        frame = frame | {"inputs": torch.where(torch.tensor(self._encoder.scaled), scaled, frame["inputs"]).float()}
        if not self.class_names and "target" in frame:
            frame["target"] = self.standardised("target", frame["target"], train).float()
        if scale := self.fitted.get("scale of target"):
            self.target_mean, self.target_std = (number.item() for number in scale)
        return frame

    def legend(self) -> dict[str, str]:
        """Return the names of the classes, or how the target's own numbers are found from the standardised ones."""
        if self.class_names:
            return super().legend()
        mean, std = self.target_mean, self.target_std
        return {"target": f"{self.target} = {mean:.8g} + {std:.8g} * target; what predicts it is read likewise"}

    def _texts(self) -> list[str]:
        """Return the columns that were texts in the training, of which a few rows may look like numbers."""
        texts = [name for name, learnt in self.fitted.get("columns", {}).items() if isinstance(learnt, list)]
        return [*texts, self.target] if self.fitted.get("target is text") else texts

    def _inputs(self, found: list[str]) -> list[str]:
        """Return the columns that are inputs; an `InputError` names columns that are not there."""
        learnt = list(self.fitted.get("columns", ()))
        if missing := [name for name in learnt if name not in found]:
            raise InputError(f"{self.path}: wanted the columns of the training, found none of {names(missing)}")
        if learnt and self.is_whole:
            return learnt
        keys = {"target": [self.target], "columns": self.columns or [], "ignore": self.ignore}
        keys["split_column"] = [self.split_column] if self.split_column else []
        for key, wanted in keys.items():
            for name in wanted:
                if name not in found:
                    raise InputError(
                        f"data.{key}={name}: wanted a column of {self.path}, one of {names(found)}."
                        f"{nearest(str(name), found)}"
                    )
        left_out = {self.target, self.split_column, *self.ignore}
        inputs = [name for name in (found if self.columns is None else self.columns) if name not in left_out]
        if not inputs:
            raise InputError(f"{self.path}: wanted a column beside the target, found {names(found)}; see data.columns")
        return inputs

    def _targets(self, column: Column) -> dict[str, Tensor]:
        """Return the entries that are to be predicted."""
        bad = column.isna().to_numpy()
        if is_number(column):
            bad = bad | ~(np.abs(column.to_numpy(dtype=np.float64, na_value=np.nan)) <= np.finfo(np.float32).max)
        if bad.any():
            rows = ", ".join(map(str, np.flatnonzero(bad)[:5] + 1))
            raise InputError(
                f"data.target={self.target}: {bad.sum()} of {len(column)} rows of {self.path} have no finite value, "
                f"the first are rows {rows}; remove them from the file"
            )
        self.fit("target is text", lambda: not is_number(column) and not is_truth(column))
        known = self.fit("class_names", lambda: self._classes(column))
        if not known:
            if not is_number(column):
                raise InputError(f"data.target={self.target}: wanted numbers, as in training, found {column.iloc[0]!r}")
            return {"target": torch.from_numpy(column.to_numpy(dtype=np.float64, copy=True))}
        values, labels = np.unique(column.to_numpy(), return_inverse=True)
        if others := [name for name in map(_class_name, values) if name not in known]:
            raise InputError(
                f"data.target={self.target}: wanted the classes of the training, {names(known)}, found "
                f"{names(others[:5])}"
            )
        numbers = np.array([known.index(_class_name(value)) for value in values])
        frame = {"labels": torch.from_numpy(numbers[labels])}
        return frame | ({"target": frame["labels"].float()} if len(known) == 2 else {})

    def _classes(self, column: Column) -> list[str]:
        """Return the names of the classes, none if the target is a number."""
        if self._is_regression(column):
            return []
        values, counts = np.unique(column.to_numpy(), return_counts=True)
        found = [_class_name(value) for value in values]
        if small := [f"{name} ({count})" for name, count in zip(found, counts, strict=True) if count < _LEAST]:
            raise InputError(
                f"data.target={self.target}: wanted {_LEAST} rows or more of each of {len(values)} classes, found "
                f"fewer of {', '.join(small[:5])}{', ...' if len(small) > 5 else ''}; remove these rows, or choose "
                f"another target{', or set data.task=regression' if is_number(column) else ''}"
            )
        return found

    def _is_regression(self, column: Column) -> bool:
        number = is_number(column)
        if not number and not is_truth(column):
            check_text(self.target, column)
        if column.nunique() < 2:
            raise InputError(f"data.target={self.target}: the same in all rows of {self.path}; choose another column")
        whole = number and bool((column % 1 == 0).all())
        if self.task == "regression" and not number:
            raise InputError(
                f"data.target={self.target}: wanted numbers for data.task=regression, found {column.iloc[0]}"
            )
        if self.task == "classification" and number and not whole:
            raise InputError(
                f"data.target={self.target}: wanted classes for data.task=classification, found numbers such as "
                f"{column[column % 1 != 0].iloc[0]}; use data.task=regression"
            )
        counts = column.value_counts()
        few = len(counts) <= _MOST_CLASSES and counts.min() >= _LEAST
        return self.task == "regression" or (self.task == "auto" and number and not (whole and few))

    def _divide(self, table: Any, frame: dict[str, Tensor]) -> Splits:
        if self.split_column is None:
            return super().divide(frame)
        return split_as_said(table[self.split_column], f"data.split_column={self.split_column}")


def _class_name(value: Any) -> str:
    """Return the name of a class, the same for 1 and 1.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _check_options(task: str, decimal: str) -> None:
    if task not in _TASKS:
        raise InputError(f"data.task={task}: wanted one of {names(_TASKS)}.{nearest(task, _TASKS)}")
    if len(decimal) != 1:
        raise InputError(f"data.decimal={decimal}: wanted one character, as the comma of 0,5")
