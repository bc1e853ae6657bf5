"""Selects the k rows of highest value: batch by batch on the device, and over all ranks at the end of an epoch."""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lossframe import distributed
from lossframe.callbacks.images.sampling import CAPACITY
from lossframe.loggers.files import write_text

Row = dict[str, Any]
"""One sample: its `value`, its `id` and further entries."""


class TopK:
    """Selects the k rows of highest value from batches, NaN first, without waiting for the device.

    `compact` shrinks rows before they are stored.
    """

    def __init__(self, k: int, compact: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda rows: rows) -> None:
        self.k = k
        self.compact = compact
        self._rows: dict[str, Tensor] = {}
        self._lists: list[dict[str, Sequence[Any]]] = []

    def add(self, values: Tensor, entries: Mapping[str, Any]) -> None:
        """Add values `[n]` with their entries: tensors `[n, ...]`, and lists, which are read at the end."""
        values, order = values.double().topk(min(self.k, len(values)))
        rows = self.compact({name: e.detach()[order] for name, e in entries.items() if isinstance(e, Tensor)})
        rows |= {"value": values, "batch": torch.full_like(order, len(self._lists)), "row": order}
        self._lists.append({name: entry for name, entry in entries.items() if not isinstance(entry, Tensor)})
        if self._rows:
            rows = {name: torch.cat([kept, rows[name]]) for name, kept in self._rows.items()}
            best = rows["value"].topk(min(self.k, len(rows["value"])))[1]
            rows = {name: entry[best] for name, entry in rows.items()}
        self._rows = rows

    def take(self) -> list[Row]:
        """Return the selected rows on the host, and drop them."""
        columns = {name: entry.cpu() for name, entry in self._rows.items()}
        rows: list[Row] = [
            {name: column[k] if column.ndim > 1 else column[k].item() for name, column in columns.items()}
            for k in range(len(columns.get("value", ())))
        ]
        for row in rows:
            batch, place = row.pop("batch"), row.pop("row")
            row |= {name: entry[place] for name, entry in self._lists[batch].items()}
        self._rows, self._lists = {}, []
        return rows


def of_all_ranks(rows: Mapping[str, list[Row]], k: int) -> dict[str, list[Row]]:
    """Return the k highest rows of each term over all ranks, the highest first; must be called on every rank."""
    everyone: list[Mapping[str, list[Row]]] = distributed.exchange(rows, CAPACITY, distributed.collective_device())
    return {term: highest([row for part in everyone for row in part[term]], k) for term in rows}


def highest(rows: list[Row], k: int) -> list[Row]:
    """Return the k rows of highest value, the highest first, and rows of equal value by id."""
    return sorted(rows, key=lambda row: (-math.inf if math.isnan(row["value"]) else -row["value"], str(row["id"])))[:k]


def write_csv(path: str, rows: list[Row]) -> None:
    """Write the entries of rows, except tensors, to a path or URL."""
    columns = [name for name in rows[0] if not isinstance(rows[0][name], Tensor)] if rows else []
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
