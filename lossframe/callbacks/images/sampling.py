"""Draws a bounded random subset of an epoch's samples, the same on any number of ranks."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossframe import distributed

CAPACITY = 1 << 20
"""Bytes that a rank sends in one collective at the end of an epoch; a longer message needs a second collective."""

Rows = dict[str, Tensor]


class Samples:
    """Draws `limit` samples of an epoch with equal probability: the same in every epoch and on any number of ranks.

    Every sample gets a random number that depends only on its batch and on its place in the batch of all ranks, and the
    samples with the lowest numbers are kept. Rank r of W holds the places r, r + W, ... of a batch, as lossframe's
    loaders and torch's `DistributedSampler` distribute them. `compact` shrinks rows before they are stored. At most
    twice `limit` rows are stored.
    """

    def __init__(self, limit: int, compact: Callable[[Rows], Rows]) -> None:
        self.limit = limit
        self.compact = compact
        self._draws: list[NDArray[np.float64]] = []  # [n, 3]: random number, batch, place
        self._rows: list[Rows] = []
        self._highest = 1.0

    def add(self, batch_idx: int, entries: Mapping[str, Tensor]) -> None:
        """Add this rank's part of a batch, name -> [n, ...], where n may be 0."""
        count = len(next(iter(entries.values())))
        places = np.arange(count * distributed.world_size())[distributed.rank() :: distributed.world_size()]
        lots = np.random.default_rng(batch_idx).random(count * distributed.world_size())[places]
        draws = np.stack([lots, np.full(count, batch_idx), places], axis=1)
        kept = np.flatnonzero(lots < self._highest)
        if not len(kept):
            return
        self._draws.append(draws[kept])
        self._rows.append(self.compact(_take(entries, kept)))
        if sum(map(len, self._draws)) > 2 * self.limit:
            self._thin()

    def gather(self) -> Rows:
        """Return the subset over all ranks on the CPU, ordered by batch and place; empty if no rank has a sample."""
        message = None
        if self._draws:
            self._thin()
            message = (self._draws[0], {name: entry.cpu().numpy() for name, entry in self._rows[0].items()})
        everyone = distributed.exchange(message, CAPACITY, distributed.collective_device())
        parts = [part for part in everyone if part is not None]
        if not parts:
            return {}
        draws = np.concatenate([draws for draws, _ in parts])
        rows = {name: torch.from_numpy(np.concatenate([rows[name] for _, rows in parts])) for name in parts[0][1]}
        return _take(rows, self._lowest(draws))

    def _thin(self) -> None:
        """Drop all rows but those of the lowest random numbers."""
        draws, rows = np.concatenate(self._draws), _concatenate(self._rows)
        kept = self._lowest(draws)
        self._draws, self._rows = [draws[kept]], [_take(rows, kept)]
        self._highest = draws[kept, 0].max() if len(kept) == self.limit else 1.0

    def _lowest(self, draws: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the rows with the lowest random numbers, ordered by batch and place."""
        kept = np.argsort(draws[:, 0])[: self.limit]
        return kept[np.lexsort((draws[kept, 2], draws[kept, 1]))]


def _take(entries: Mapping[str, Any], kept: NDArray[np.int64]) -> Rows:
    rows = torch.from_numpy(kept)
    return {name: entry.detach()[rows.to(entry.device)] for name, entry in entries.items()}


def _concatenate(parts: list[Rows]) -> Rows:
    return {name: torch.cat([rows[name] for rows in parts]) for name in parts[0]}
