"""Batches straight from tensors in memory, that resume in the middle of an epoch."""

from collections.abc import Iterator, Mapping
from itertools import islice

import torch
from torch import Tensor

from lossframe.data.samplers import ShardedBatchSampler


class BatchLoader:
    """One rank's batches of the samples `index` of `frame`; each also gives the samples' ids as `index`.

    Takes the place of a `DataLoader`, without its workers, its collation sample by sample, or the sampler that
    Lightning would put into it. `state_dict` holds how far the epoch is: after `load_state_dict` the next iteration
    of the same epoch starts there.
    """

    def __init__(self, frame: Mapping[str, Tensor], index: Tensor, batch_sampler: ShardedBatchSampler) -> None:
        self.frame = frame
        self.index = index
        self.batch_sampler = batch_sampler
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
            yield self._take(batch)

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of its batches given so far, the same on every rank."""
        return dict(self._progress)

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where the loader that gave `state` was."""
        self._progress = dict(state)
        self._resuming = True

    def _take(self, batch: list[int]) -> dict[str, Tensor]:
        ids = self.index[torch.tensor(batch, dtype=torch.int64)]
        return {name: entry[ids] for name, entry in self.frame.items()} | {"index": ids}
