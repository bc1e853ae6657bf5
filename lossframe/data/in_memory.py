"""Base class of data sets in memory: loads, checks and splits the samples once, and batches them on all ranks."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, TypedDict

import pytorch_lightning as pl
import torch
from torch import Tensor

from lossframe.data.loader import BatchLoader
from lossframe.data.samplers import (
    DEFAULT_BATCH_SIZE,
    GlobalBatchSampler,
    OrderedBatchSampler,
    SamplerFactory,
    ShardedBatchSampler,
    balanced,
)
from lossframe.data.splits import Splits, fingerprint, split_by
from lossframe.errors import InputError


class DataOptions(TypedDict, total=False):
    """Options of every data set, in addition to those that describe its contents.

    `batch_size`: samples in a batch, over all ranks (default 80, or as many as fewer classes fill).
    `split`: "samples" (default), or "classes": those of the test split are in no other.
    `val_fraction`, `test_fraction`: shares of the samples, or for split=classes of the classes (0.1, 0.3).
    `seed`: decides the split and, with the epoch, the training batches (0).
    `sampler`: makes the training batches: `balanced` (default), `shuffled`, or a partial of these.
    """

    batch_size: int | None
    split: str
    val_fraction: float
    test_fraction: float
    seed: int
    sampler: SamplerFactory


class InMemoryData(pl.LightningDataModule, ABC):
    """Abstract base: loads a data set as one frame, checks and splits it, and makes a loader for each split."""

    provides: ClassVar[frozenset[str]]

    def __init__(
        self,
        *,
        batch_size: int | None = None,
        split: str = "samples",
        val_fraction: float = 0.1,
        test_fraction: float = 0.3,
        seed: int = 0,
        sampler: SamplerFactory = balanced,
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.split = split
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.seed = seed
        self.sampler = sampler
        self.frame: dict[str, Tensor] = {}
        self.splits: Splits = {}

    @abstractmethod
    def load(self) -> dict[str, Tensor]:
        """Return the entries of all samples, name -> tensor; the row of a sample is its id."""

    @abstractmethod
    def facts(self, frame: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the values that `frame` has for attributes which are configured before the data is loaded."""

    def prepare(self, frame: dict[str, Tensor], train: Tensor) -> dict[str, Tensor]:
        """Return the frame after preprocessing, fitted on the rows `train` only (default: unchanged)."""
        return frame

    def setup(self, stage: str | None = None) -> None:
        """Load, check and split the data, once."""
        if self.splits:
            return
        frame = self.load()
        self._check(frame)
        strata = frame.get("labels", torch.zeros(len(next(iter(frame.values()))), dtype=torch.int64))
        splits = split_by(self.split, strata, self.val_fraction, self.test_fraction, self.seed)
        self.frame, self.splits = self.prepare(frame, splits["train"]), splits

    def train_dataloader(self) -> BatchLoader:
        """Return this rank's share of the sampler's batches."""
        train = {name: entry[self.splits["train"]] for name, entry in self.frame.items()}
        return self._loader("train", self.sampler(train, self.batch_size, self.seed))

    def val_dataloader(self) -> BatchLoader:
        """Return this rank's share of the validation samples, in order."""
        return self.in_order("val")

    def test_dataloader(self) -> BatchLoader:
        """Return this rank's share of the test samples, in order."""
        return self.in_order("test")

    def in_order(self, split: str) -> BatchLoader:
        """Return this rank's share of the samples of "train", "val" or "test", in order."""
        return self._loader(split, self._in_order(split))

    def state_dict(self) -> dict[str, Any]:
        """Return how the samples are split, for checkpoints."""
        return {"splits": fingerprint(self.splits), "options": self._split_options()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raise an `InputError` unless the samples are split as in a checkpoint, whose model has seen its own split."""
        if fingerprint(self.splits) == state["splits"]:
            return
        now, before = self._split_options(), state["options"]
        changed = [f"data.{name}={now[name]} for {before[name]}" for name in now if now[name] != before[name]]
        raise InputError(
            f"{', '.join(changed) or 'other samples'}: wanted the split of the checkpoint, found another, which tests "
            "on samples that were trained on; "
            + (
                f"add {' '.join(f'data.{name}={before[name]}' for name in now if now[name] != before[name])}, "
                if changed
                else "give the samples back, "
            )
            + "or train anew without ckpt"
        )

    def _split_options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("split", "val_fraction", "test_fraction", "seed")}

    def _check(self, frame: Mapping[str, Tensor]) -> None:
        """Raise an `InputError` if the configured attributes differ from those of the data."""
        for name, found in self.facts(frame).items():
            wanted = getattr(self, name)
            if wanted != found:
                raise InputError(
                    f"{type(self).__name__} was given {name}={wanted}, but its data has {found}: "
                    f"set data.{name}={found}"
                )

    def _in_order(self, split: str) -> OrderedBatchSampler:
        size = DEFAULT_BATCH_SIZE if self.batch_size is None else self.batch_size
        return OrderedBatchSampler(len(self.splits[split]), size)

    def _loader(self, name: str, batches: GlobalBatchSampler) -> BatchLoader:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return BatchLoader(self.frame, self.splits[name], ShardedBatchSampler(batches, rank, world_size))
