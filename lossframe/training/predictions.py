"""The command `predict`: writes what a run's model gives for each sample, and the losses of the sample."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from torch import Tensor

from lossframe import distributed
from lossframe.callbacks.monitor.loss_monitor import LossMonitor
from lossframe.data import InMemoryData
from lossframe.data.workers import naming_samples
from lossframe.errors import InputError, names, nearest
from lossframe.objectives import absence
from lossframe.training import table_file
from lossframe.training.checks.user_errors import explained
from lossframe.training.evaluation import on_all_ranks
from lossframe.training.loaded_run import LoadedRun
from lossframe.training.table_file import Columns

SPLITS = ("test", "val", "train")
_STAGES = {"test": "test", "val": "validate", "train": "fit"}
_ID = "index"
_TARGETS = ("labels", "target")
"""Entries of the batch that are written where the batch has them."""
_CAPACITY = 1 << 18
"""Bytes that a rank sends in one collective for a batch; longer rows need a second collective."""


def predict(
    folder: Path, overrides: Sequence[str], out: Path, checkpoint: str = "best", split: str = "test",
    columns: Sequence[str] = (), force: bool = False,
) -> None:  # fmt: skip
    """Write a table with a row for each sample of a split, or of all, ordered by the sample's id."""
    table_file.check(out, force)
    rows = Predictions(columns)

    def work(loaded: LoadedRun, trainer: pl.Trainer) -> None:
        loaded.learner.metrics.clear()
        loaded.objective.optional = frozenset(loaded.objective.losses)  # new samples may have no target
        data = loaded.new_data()
        loaders = {each: getattr(data, f"{each}_dataloader") for each in SPLITS}
        several = split == "all" and not getattr(data, "is_whole", False)
        for each in SPLITS if several else ("test" if split == "all" else split,):
            _serve(data, each, loaders)
            trainer.test(loaded.learner, data, verbose=False)
        if trainer.is_global_zero:
            print("".join(f"{line}\n" for line in rows.notes), end="", file=sys.stderr)
            table_file.write(out, rows.ordered(getattr(data, "sample_names", None)))
            print(f"predictions      {out}, {rows.count} samples")
            for entry, text in getattr(data, "legend", dict)().items():
                print(f"{entry:<16} {text}")

    with naming_samples(), explained():
        on_all_ranks(folder, overrides, checkpoint, work, rows, limit_test_batches=1.0)


class Predictions(pl.Callback):
    """Collects the columns of every sample of a test on rank 0, batch by batch: entries of the frame, and losses.

    `chosen` names the columns (default: `labels`, `target`, all outputs of the model with at most one dimension beside
    the samples, and `loss/TERM` of each term that has a value for each sample).
    """

    def __init__(self, chosen: Sequence[str] = ()) -> None:
        self.chosen = list(chosen)
        self.parts: list[Columns] = []
        self.count = 0
        self.notes: dict[str, None] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Make the losses keep their values by sample, and let them be NaN."""
        monitor = self._monitor(trainer)
        monitor.keeps_samples = True
        monitor.guard.policy = "off"

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Send the columns of this rank's part of a batch to rank 0."""
        if not isinstance(batch, Mapping) or _ID not in batch:
            found = names(batch) if isinstance(batch, Mapping) else type(batch).__name__
            raise InputError(f"predict wanted the ids of samples as the batch's entry {_ID!r}, found {found}")
        found_columns = self._columns(outputs, batch, self._losses(pl_module.objective, outputs))
        everyone = distributed.exchange(found_columns, _CAPACITY, distributed.collective_device())
        if trainer.is_global_zero:
            self.parts += [part for part in everyone if len(part[_ID])]

    def ordered(self, sample_names: Sequence[str] | None, at_once: int = 4096) -> Iterator[Columns]:
        """Yield the columns of all samples ordered by id, each sample once, some thousand rows at a time."""
        if not self.parts:
            raise InputError("predict wanted samples, found none in this split")
        shared = [name for name in self.parts[0] if all(name in part for part in self.parts)]
        ids = np.concatenate([part[_ID] for part in self.parts])
        places = [(part, row) for part in self.parts for row in range(len(part[_ID]))]
        _, order = np.unique(ids, return_index=True)
        self.count = len(order)
        for start in range(0, len(order), at_once):
            rows = [places[k] for k in order[start : start + at_once]]
            columns = {name: np.stack([part[name][row] for part, row in rows]) for name in shared}
            if sample_names:
                named = np.array([sample_names[k] for k in columns[_ID]], dtype=str)
                columns = {_ID: columns.pop(_ID), "name": named, **columns}
            yield columns

    def _columns(self, frame: Mapping[str, Any], batch: Mapping[str, Any], losses: dict[str, Tensor]) -> Columns:
        """Return the chosen columns of a batch, `[n]` or `[n, width]`."""
        n = len(batch[_ID])
        found = {name: e for name, e in frame.items() if isinstance(e, Tensor) and e.ndim and len(e) == n} | losses
        if unknown := [name for name in self.chosen if name not in found]:
            near = nearest(unknown[0], found)
            raise InputError(f"--columns {unknown[0]}: wanted columns among {names(found)}.{near}")
        outputs = [name for name in found if name not in batch and found[name].ndim <= 2]
        self._say_of_images(name for name in found if name not in batch and found[name].ndim > 2)
        usual = [name for name in _TARGETS if name in found] + outputs
        return {name: _array(found[name]) for name in [_ID, *(self.chosen or usual)]}

    def _losses(self, objective: Any, frame: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the values by sample of each term that has them, and say which others there are."""
        found = {}
        for term, loss in objective.named_losses():
            if absent := [entry for entry in absence.needed(loss, objective.inputs[term]) if frame.get(entry) is None]:
                self.notes[f"loss/{term} is left out: the data have no {names(absent)}"] = None
                continue
            values = None if loss.samples is None else loss.samples.values
            if values is None or not values.ndim:
                self.notes[f"loss/{term} is left out: the term has no value for each sample"] = None
                continue
            found[f"loss/{term}"] = values
            if loss.relational:
                self.notes[f"loss/{term} of a sample depends on the other samples of its batch"] = None
        return found

    def _say_of_images(self, left_out: Iterator[str]) -> None:
        for name in left_out:
            if not self.chosen:
                note = f"{name} is left out: it has several dimensions for each sample; choose it by --columns"
                self.notes[note] = None

    def _monitor(self, trainer: pl.Trainer) -> LossMonitor:
        callbacks: list[Any] = getattr(trainer, "callbacks")  # noqa: B009 - Lightning's stubs do not know it
        monitor: LossMonitor = next(each for each in callbacks if isinstance(each, LossMonitor))
        return monitor


def _array(entry: Tensor) -> np.ndarray[Any, Any]:
    """Return an entry on the host, one row a sample."""
    values = entry.detach().cpu()
    values = values.flatten(1) if values.ndim > 1 else values
    return (values.float() if values.dtype.is_floating_point and values.itemsize < 4 else values).numpy()


def _serve(data: Any, split: str, loaders: Mapping[str, Callable[[], Any]]) -> None:
    """Make a datamodule serve a split as its test: in order, if it can, else by the split's own loader."""

    def loader() -> Any:
        if isinstance(data, InMemoryData):
            return data.each_once(split)
        if split != "test":
            data.setup(_STAGES[split])
        return loaders[split]()

    data.test_dataloader = loader
