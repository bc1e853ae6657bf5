"""Base class of data sets in memory: loads, checks and splits the samples once, and batches them on all ranks."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, TypedDict

import pytorch_lightning as pl
import torch
from torch import Tensor

from lossframe.data.loader import BatchLoader
from lossframe.data.samplers import (
    GlobalBatchSampler,
    OrderedBatchSampler,
    SamplerFactory,
    ShardedBatchSampler,
    balanced,
)
from lossframe.data.splits import Splits, split_by
from lossframe.errors import InputError


class DataOptions(TypedDict, total=False):
    """Options of every data set, in addition to those that describe its contents.

    `batch_size`: samples in a batch, over all ranks (default 80).
    `split`: "samples" (default), or "classes": the last classes are in the test split only.
    `val_fraction`, `test_fraction`: shares of the samples, or for split=classes of the classes (0.1, 0.3).
    `seed`: decides the split and, with the epoch, the training batches (0).
    `sampler`: makes the training batches: `balanced` (default), `shuffled`, or a partial of these.
    """

    batch_size: int
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
        batch_size: int = 80,
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
        return self._loader("val", OrderedBatchSampler(len(self.splits["val"]), self.batch_size))

    def test_dataloader(self) -> BatchLoader:
        """Return this rank's share of the test samples, in order."""
        return self._loader("test", OrderedBatchSampler(len(self.splits["test"]), self.batch_size))

    def _check(self, frame: Mapping[str, Tensor]) -> None:
        """Raise an `InputError` if the configured attributes differ from those of the data."""
        for name, found in self.facts(frame).items():
            wanted = getattr(self, name)
            if wanted != found:
                raise InputError(
                    f"{type(self).__name__} was given {name}={wanted}, but its data has {found}: set {name}={found}"
                )

    def _loader(self, name: str, batches: GlobalBatchSampler) -> BatchLoader:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return BatchLoader(self.frame, self.splits[name], ShardedBatchSampler(batches, rank, world_size))
