"""Loads batches from tensors in memory, and resumes in the middle of an epoch."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice

import torch
from torch import Tensor

from lossframe import saved
from lossframe.data.samplers import POSITION, ShardedBatchSampler

Change = Callable[[dict[str, Tensor], int], dict[str, Tensor]]
"""Changes the entries of a batch in an epoch: its augmentation."""


class BatchLoader:
    """Loads one rank's batches of the samples `index` of `frame`, adds their ids as `index`, and calls `change`.

    Replaces a `DataLoader`: there are no workers, no collation of samples, and Lightning inserts no sampler.
    `state_dict` holds the position in the epoch; after `load_state_dict`, the next iteration of the same epoch
    continues from this position.
    """

    def __init__(
        self,
        frame: Mapping[str, Tensor],
        index: Tensor,
        batch_sampler: ShardedBatchSampler,
        change: Change | None = None,
    ) -> None:
        self.frame = frame
        self.index = index
        self.batch_sampler = batch_sampler
        self.change = change
        self._progress = {"epoch": 0, "batches": 0}
        self._resuming = False

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        epoch = self.batch_sampler.sampler.epoch
        done = self._progress["batches"] if self._resuming and self._progress["epoch"] == epoch else 0
        self._resuming = False
        for position, batch in enumerate(islice(self.batch_sampler, done, None), start=done):
            self._progress = {"epoch": epoch, "batches": position + 1}
            taken = self._take(batch)
            yield taken if self.change is None else self.change(taken, epoch)

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of batches that it has yielded, the same on every rank."""
        return dict(self._progress)

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue from the position of the loader that returned `state`."""
        saved.check(state, POSITION, type(self).__name__)
        self._progress = dict(state)
        self._resuming = True

    def _take(self, batch: list[int]) -> dict[str, Tensor]:
        ids = self.index[torch.tensor(batch, dtype=torch.int64)]
        return {name: entry[ids] for name, entry in self.frame.items()} | {"index": ids}
