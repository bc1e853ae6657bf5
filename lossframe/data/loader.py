"""Loads batches from tensors in memory, and resumes in the middle of an epoch."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from lossframe.data.position import Position
from lossframe.data.samplers import ShardedBatchSampler

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
        self._position = Position(batch_sampler.sampler)

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        epoch, done = self.batch_sampler.sampler.epoch, self._position.start()
        for number, batch in enumerate(islice(self.batch_sampler, done, None), start=done + 1):
            self._position.give_out(number)
            taken = self._take(batch)
            yield taken if self.change is None else self.change(taken, epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the epoch as batches were given out, the same on every rank."""
        return self._position.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the position of the loader that returned `state`."""
        self._position.load_state_dict(state, type(self).__name__)

    def _take(self, batch: list[int]) -> dict[str, Tensor]:
        ids = self.index[torch.tensor(batch, dtype=torch.int64)]
        return {name: entry[ids] for name, entry in self.frame.items()} | {"index": ids}
