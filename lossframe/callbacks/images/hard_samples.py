"""Lists the samples of highest loss in each epoch, and counts how often each sample was listed."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossframe import saved
from lossframe.callbacks.base import MonitorCallback
from lossframe.callbacks.images.base import named
from lossframe.callbacks.images.thumbnails import LARGEST, pixels, thumbnails
from lossframe.callbacks.images.tiles import sheet
from lossframe.callbacks.images.top_k import Row, TopK, highest, of_all_ranks, write_csv
from lossframe.counts import check_counts
from lossframe.loggers.files import join
from lossframe.loggers.tolerance import Tolerance
from lossframe.losses.base.loss import Loss


class HardSamples(MonitorCallback):
    """Shows the `k` samples of highest loss of each term since the last epoch's end, over all ranks.

    The samples of train, val and test are shown at the end of each epoch: as images `hard/TERM` in TensorBoard, or as
    text if there is no `image` [N, C, H, W], and as `STAGE_TERM.csv` in `folder` (default: `hard` in the logger's
    directory). Columns are `value`, `id`, `target`, `prediction` and `epochs`, the number of epochs that listed the
    sample, and `name` if the datamodule has `sample_names`, a list by id, as of files. `STAGE_TERM_often.csv` has all
    samples that were ever listed, the most frequent first. Each entry is looked up in the outputs of the step (in their
    "frame" if they have one) and in the batch; a missing entry is left out. The value of an anchor is the mean over its
    own pairs or active triplets, so that values of different batches compare. Scores [N, C] become the class of the
    highest. `text` may name an entry of strings. A loss without a value for each sample is left out. A sample without
    an id is named `BATCH:ROW`, after `rankR:` and `DATALOADER:` if there are several ranks or dataloaders. Several
    dataloaders share one list.
    """

    def __init__(
        self, k: int = 16, ids: str = "index", target: str | None = "labels", prediction: str | None = "logits",
        image: str | None = "image", text: str | None = None, thumbnail: int = 64, folder: str | Path | None = None,
    ) -> None:  # fmt: skip
        check_counts(self, k=k)
        check_counts(self, most=LARGEST, thumbnail=thumbnail)
        self.k = k
        self.entries = {"id": ids, "target": target, "prediction": prediction, "text": text, "image": image}
        self.thumbnail = thumbnail
        self.folder = folder
        self._hardest: dict[str, dict[str, TopK]] = {}
        self._rows: dict[str, dict[str, list[Row]]] = {}
        self._epochs: dict[str, dict[str, Counter[Any]]] = {}
        self._files = Tolerance("HardSamples")

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Make the losses keep their values by sample."""
        super().setup(trainer, pl_module, stage)
        self.monitor(trainer).keeps_samples = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the hardest samples of the batch to the list."""
        self._add("train", self.monitor(trainer).losses, self._find(outputs, batch), _place(trainer, batch_idx))

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int | None = None,
    ) -> None:  # fmt: skip
        """Add the hardest samples of the batch to the list."""
        if not trainer.sanity_checking:
            place = _place(trainer, batch_idx, dataloader_idx)
            self._add("val", self.monitor(trainer).losses, self._find(outputs, batch), place)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int | None = None,
    ) -> None:  # fmt: skip
        """Add the hardest samples of the batch to the list."""
        place = _place(trainer, batch_idx, dataloader_idx)
        self._add("test", self.monitor(trainer).losses, self._find(outputs, batch), place)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the list of the training epoch."""
        self._show(trainer, "train")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the list of the validation."""
        if not trainer.sanity_checking:
            self._show(trainer, "val")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the list of the test."""
        self._show(trainer, "test")

    def state_dict(self) -> dict[str, Any]:
        """Return the list of the unfinished training epoch, over all ranks, and how many epochs listed each sample."""
        self._merge("train")
        epochs = {stage: {term: dict(ids) for term, ids in terms.items()} for stage, terms in self._epochs.items()}
        return {"rows": self._rows.get("train", {}), "epochs": epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the list and the counts of a checkpoint."""
        row = {"id": object, "value": int | float}
        form = {"rows": {...: [row]}, "epochs": {...: {...: {...: int}}}}
        saved.check(state_dict, form, type(self).__name__)
        self._rows = {"train": state_dict["rows"]}
        self._epochs = {s: {t: Counter(ids) for t, ids in terms.items()} for s, terms in state_dict["epochs"].items()}

    def _find(self, outputs: Any, batch: Any) -> dict[str, Any]:
        """Return the entries of outputs and batch under the names of the columns; skip missing ones."""
        frame: dict[str, Any] = dict(batch) if isinstance(batch, Mapping) else {}
        if isinstance(outputs, Mapping):
            frame |= outputs.get("frame", outputs)
        found = {name: frame[entry] for name, entry in self.entries.items() if entry in frame}
        if isinstance(found.get("prediction"), Tensor) and found["prediction"].ndim == 2:
            found["prediction"] = found["prediction"].argmax(1)
        return {name: entry for name, entry in found.items() if name == "image" or getattr(entry, "ndim", 1) == 1}

    def _add(self, stage: str, losses: Mapping[str, Loss], entries: dict[str, Any], place: str) -> None:
        """Add the samples of a batch, named after `place` if they have no ids, to the list of each term."""
        hardest = self._hardest.setdefault(stage, {term: TopK(self.k, self._compact) for term in losses})
        for term, loss in losses.items():
            values = None if loss.samples is None else loss.samples.values
            if values is None or not values.ndim or not len(values):
                continue
            fitting = {name: entry for name, entry in entries.items() if len(entry) == len(values)}
            if "id" not in fitting:
                fitting["id"] = [f"{place}:{row}" for row in range(len(values))]
            hardest[term].add(values, fitting)

    def _compact(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        return rows | {"image": thumbnails(rows["image"], self.thumbnail)} if "image" in rows else rows

    def _merge(self, stage: str) -> None:
        """Merge the samples that all ranks added since the last merge into the list of a stage."""
        if not (hardest := self._hardest.get(stage)):
            return
        new = of_all_ranks({term: rows.take() for term, rows in hardest.items()}, self.k)
        known = self._rows.get(stage, {})
        self._rows[stage] = {term: highest(known.get(term, []) + rows, self.k) for term, rows in new.items()}

    def _show(self, trainer: pl.Trainer, stage: str) -> None:
        """Write the lists of a stage as CSV and into TensorBoard, and start new ones."""
        self._merge(stage)
        folder = self.folder or join(trainer.log_dir or trainer.default_root_dir, "hard")
        datamodule = getattr(trainer, "datamodule", None)
        class_names: list[str] | None = getattr(datamodule, "class_names", None)
        for term, rows in self._rows.pop(stage, {}).items():
            if not rows:
                continue
            epochs = self._epochs.setdefault(stage, {}).setdefault(term, Counter())
            epochs.update({row["id"] for row in rows})
            listed = [
                {"id": row["id"], **_name(row["id"], datamodule), **row, "epochs": epochs[row["id"]]} for row in rows
            ]
            if trainer.is_global_zero:
                often = [{"id": each, **_name(each, datamodule), "epochs": n} for each, n in epochs.most_common()]
                self._files.attempt(write_csv, join(folder, f"{stage}_{term}.csv"), listed)
                self._files.attempt(write_csv, join(folder, f"{stage}_{term}_often.csv"), often)
            for writer, step in self.writers(trainer, stage):
                if "image" in listed[0]:
                    picture = draw(listed, self.thumbnail, class_names)
                    writer.add_image(f"hard/{term}", picture, step, dataformats="HWC")
                else:
                    writer.add_text(f"hard/{term}", table(listed), step)


def _place(trainer: pl.Trainer, batch_idx: int, dataloader_idx: int | None = None) -> str:
    """Return the name of a batch: its index, after rank and dataloader if there are several."""
    rank = [] if trainer.world_size == 1 else [f"rank{trainer.global_rank}"]
    loader = [] if dataloader_idx is None else [f"{dataloader_idx}"]
    return ":".join([*rank, *loader, f"{batch_idx}"])


def _name(identity: Any, datamodule: Any) -> dict[str, str]:
    """Return the name of a sample, such as its file, as a column; nothing if the datamodule has no names."""
    known: Any = getattr(datamodule, "sample_names", None)
    return {"name": known[identity]} if known and isinstance(identity, int) and identity < len(known) else {}


def draw(rows: list[Row], side: int, class_names: list[str] | None) -> NDArray[np.uint8]:
    """Draw rows with images as one image [H, W, 3], each captioned with value, id, target and prediction."""
    captions, right = [], []
    for row in rows:
        told = [_word(row[name], class_names) for name in ("target", "prediction") if name in row]
        name = row["name"].rpartition("/")[2] if "name" in row else f"id {row['id']}"
        captions.append([f"{row['value']:.4g}", name, " as ".join(told)])
        right.append(row["target"] == row["prediction"] if len(told) == 2 else None)
    return sheet(pixels(torch.stack([row["image"] for row in rows]), side), captions, right)


def table(rows: list[Row]) -> str:
    """Format rows as a Markdown table."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(row.values() for row in rows)]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "/") for cell in line) + " |" for line in lines)


def _word(value: Any, class_names: list[str] | None) -> str:
    return named(torch.tensor([value]), class_names)[0] if isinstance(value, int) else f"{value:.4g}"
