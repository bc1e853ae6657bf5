"""Batches validation and test samples so that each batch holds several samples of several classes."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from lossframe.data.samplers import (
    DEFAULT_BATCH_SIZE,
    SAMPLES_PER_CLASS,
    GlobalBatchSampler,
    OrderedBatchSampler,
    Positions,
)

_FEWEST = 4  # samples in a batch of two classes with two samples each


class GroupedBatchSampler(GlobalBatchSampler):
    """Samples every position once: classes are dealt in groups, and groups of different classes alternate.

    The batches are the same in every epoch, and about equally large. A group has at most `samples_per_class` samples,
    and two at least, or three, if its class has as many. A loss on pairs, which needs two samples of a class and two
    classes, thus has something to compute in every batch where the labels allow this.
    """

    def __init__(self, labels: Tensor, batch_size: int, samples_per_class: int) -> None:
        super().__init__()
        found = labels.cpu().numpy()
        largest = max(2, min(samples_per_class, batch_size // 2))
        least = -(-len(found) // batch_size)
        groups = _groups(found, largest, least)
        self._batches = next(
            batches
            for number in range(least, len(groups) + 1)
            if max(map(len, batches := _cut(groups, number))) <= batch_size
        )

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        yield from self._batches


def evaluated(
    frame: Mapping[str, Tensor], batch_size: int | None, samples_per_class: int | None = None
) -> GlobalBatchSampler:
    """Return a sampler of all samples, 80 in a batch by default: grouped by `labels` if there are any, or in order."""
    size = DEFAULT_BATCH_SIZE if batch_size is None else batch_size
    labels = frame.get("labels", torch.empty(0))
    if labels.ndim == 1 and len(labels) and size >= _FEWEST:
        return GroupedBatchSampler(labels, size, samples_per_class or SAMPLES_PER_CLASS)
    return OrderedBatchSampler(len(next(iter(frame.values()))), size)


def _groups(labels: Positions, largest: int, least: int) -> list[Positions]:
    """Split each class into `least` groups or more, if it has as many pairs, and spread its groups evenly over all."""
    placed = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = max(1, min(len(members) // 2, max(-(-len(members) // largest), least)))
        placed += [((number + 0.5) / count, group) for number, group in enumerate(np.array_split(members, count))]
    return [group for _, group in sorted(placed, key=lambda each: each[0])]  # stable: of equal places, by label


def _cut(groups: list[Positions], number: int) -> list[list[int]]:
    """Cut a sequence of groups into `number` batches, or fewer, whose sizes are as equal as whole groups allow."""
    ends = np.cumsum([len(group) for group in groups])
    wanted = ends[-1] * np.arange(1, number + 1) / number
    cuts = np.unique([int(np.abs(ends - end).argmin()) + 1 for end in wanted])
    starts = [0, *cuts[:-1]]
    return [np.concatenate(groups[start:end]).tolist() for start, end in zip(starts, cuts, strict=True)]
