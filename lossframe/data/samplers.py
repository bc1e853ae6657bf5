"""Samples global batches, the same on every rank, and shards them over the ranks.

A batch depends on the seed and the epoch only: not on the rank, nor on earlier draws. Any number of ranks therefore
sees the same global batches, and so does a resumed run.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.data import Sampler

from lossframe.errors import InputError, names

Positions = NDArray[np.int64]
DEFAULT_BATCH_SIZE = 80
"""Samples in a batch over all ranks, where none is configured and enough classes fit into it."""
SAMPLES_PER_CLASS = 8
"""Samples of a class in a batch, where no number is configured and the classes have as many."""


class GlobalBatchSampler(Sampler[list[int]], ABC):
    """Abstract base: samples the batches of one epoch over all ranks, each a list of positions in the data set."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.epoch = 0

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __iter__(self) -> Iterator[list[int]]: ...

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch = epoch

    def _generator(self) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.epoch])


class OrderedBatchSampler(GlobalBatchSampler):
    """Samples every position once, in order; the last batch may be smaller, and is left out with `drop_last`."""

    def __init__(self, size: int, batch_size: int, seed: int = 0, drop_last: bool = False) -> None:
        super().__init__(seed)
        self.size = size
        self.batch_size = batch_size
        if batch_size < 1:
            raise InputError(f"data.batch_size={batch_size}: wanted at least 1")
        self._end = size - size % batch_size if drop_last else size

    def __len__(self) -> int:
        return len(range(0, self._end, self.batch_size))

    def __iter__(self) -> Iterator[list[int]]:
        order = self._order()
        for start in range(0, self._end, self.batch_size):
            yield order[start : start + self.batch_size].tolist()

    def _order(self) -> Positions:
        return np.arange(self.size)


class ShuffledBatchSampler(OrderedBatchSampler):
    """Samples every position once, in another random order each epoch; the last batch is as in the ordered one."""

    def _order(self) -> Positions:
        return self._generator().permutation(self.size)


class ClassBalancedBatchSampler(GlobalBatchSampler):
    """Samples batches of `classes_per_batch` classes with `samples_per_class` samples each, class after class.

    An epoch has `len(labels) // (classes_per_batch * samples_per_class)` batches, and at least one. Within an epoch,
    no class, and no sample of a class, is drawn again before all others were drawn. A batch never repeats a sample,
    which would be its own positive: a class of fewer samples adds all of them. Fewer than `classes_per_batch`
    classes are an `InputError`.
    """

    def __init__(self, labels: Tensor, classes_per_batch: int, samples_per_class: int, seed: int = 0) -> None:
        super().__init__(seed)
        self.labels = labels.cpu().numpy()
        self.classes_per_batch = classes_per_batch
        self.samples_per_class = samples_per_class
        found = len(np.unique(self.labels))
        if min(classes_per_batch, samples_per_class) < 1 or found < classes_per_batch:
            raise InputError(
                f"a batch of {classes_per_batch} classes with {samples_per_class} samples each was asked for, "
                f"but the labels hold {found} classes: ask for 1 to {found} classes and at least 1 sample of each"
            )
        self._members = [np.flatnonzero(self.labels == label) for label in np.unique(self.labels)]

    def __len__(self) -> int:
        return max(1, len(self.labels) // (self.classes_per_batch * self.samples_per_class))

    def __iter__(self) -> Iterator[list[int]]:
        generator = self._generator()
        classes = _Deck(np.arange(len(self._members)), generator)
        samples = [_Deck(positions, generator) for positions in self._members]
        for _ in range(len(self)):
            drawn = [samples[chosen].deal(self.samples_per_class) for chosen in classes.deal(self.classes_per_batch)]
            yield np.concatenate(drawn).tolist()


class ShardedBatchSampler(Sampler[list[int]]):
    """Shards global batches: rank r of W gets every W-th sample of each batch, from the r-th on.

    No sample is padded, dropped or repeated. Every rank gets as many batches as there are global ones. The sizes of
    a batch on different ranks differ by one at most, and some are 0 if a batch has fewer samples than there are ranks.
    """

    def __init__(self, sampler: GlobalBatchSampler, rank: int = 0, world_size: int = 1) -> None:
        self.sampler = sampler  # Lightning finds `set_epoch` under this name
        self.rank = rank
        self.world_size = world_size
        if not 0 <= rank < world_size:
            raise InputError(f"rank must be 0 to {world_size - 1} for world_size={world_size}, but is {rank}")

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.sampler:
            yield batch[self.rank :: self.world_size]


class SamplerFactory(Protocol):
    """Protocol of functions that make the training batches: `balanced`, `shuffled`, or a partial of these."""

    def __call__(self, frame: Mapping[str, Tensor], batch_size: int | None, seed: int) -> GlobalBatchSampler:
        """Return a sampler of batches of `batch_size` positions in `frame`; None leaves the size to the sampler."""


def shuffled(frame: Mapping[str, Tensor], batch_size: int | None, seed: int) -> GlobalBatchSampler:
    """Return a sampler of all samples in random order, 80 in a batch by default."""
    size = DEFAULT_BATCH_SIZE if batch_size is None else batch_size
    return ShuffledBatchSampler(len(next(iter(frame.values()))), size, seed)


def balanced(
    frame: Mapping[str, Tensor], batch_size: int | None, seed: int, samples_per_class: int | None = None
) -> GlobalBatchSampler:
    """Return a sampler of batches with `samples_per_class` samples of each of several classes.

    By default these are 8, or as many as half of the classes have if that is fewer, and a batch has as many classes as
    there are and fit into 80 samples. Data without `labels`, or with too few classes for `batch_size`, is an
    `InputError`; classes of fewer samples are named in a warning.
    """
    if "labels" not in frame:
        raise InputError(
            f"balanced batches need 'labels', but the data gives {names(frame)}: use data/sampler=shuffled"
        )
    labels, counts = np.unique(frame["labels"].numpy(), return_counts=True)
    classes = len(labels)
    if samples_per_class is None:
        samples_per_class = min(SAMPLES_PER_CLASS, max(2, int(np.sort(counts)[classes // 2])))
    if batch_size is None and samples_per_class >= 1:
        batch_size = samples_per_class * max(1, min(classes, DEFAULT_BATCH_SIZE // samples_per_class))
    batch_size = DEFAULT_BATCH_SIZE if batch_size is None else batch_size
    if samples_per_class < 1 or batch_size % samples_per_class or not 0 < batch_size // samples_per_class <= classes:
        raise InputError(
            f"data.batch_size={batch_size} is not a number of classes, 1 to {classes} here, times "
            f"data.sampler.samples_per_class={samples_per_class}: use "
            f"{_what_fits(batch_size, samples_per_class, classes)}"
        )
    _warn_of_small_classes(dict(zip(labels.tolist(), counts.tolist(), strict=True)), samples_per_class)
    return ClassBalancedBatchSampler(frame["labels"], batch_size // samples_per_class, samples_per_class, seed)


def _warn_of_small_classes(counts: Mapping[int, int], samples_per_class: int) -> None:
    small = [f"{label} ({count})" for label, count in counts.items() if count < samples_per_class]
    if small:
        rank_zero_warn(
            f"{len(small)} of {len(counts)} classes have fewer than {samples_per_class} training samples: "
            f"{', '.join(small[:8])}{', ...' if len(small) > 8 else ''}. A batch has all of them once, and is smaller; "
            "lower data.sampler.samples_per_class for batches of one size"
        )


def _what_fits(batch_size: int, samples_per_class: int, classes: int) -> str:
    """Return the nearest values of both options that fit the number of classes."""
    per_class = max(1, samples_per_class)
    fitting = [per_class * max(1, min(classes, batch_size // per_class))]
    others = [batch_size // count for count in range(1, min(classes, batch_size) + 1) if batch_size % count == 0]
    nearest = min(others, key=lambda size: abs(size - per_class), default=per_class)
    return f"data.batch_size={fitting[0]} or data.sampler.samples_per_class={nearest}"


class _Deck:
    """Draws elements at random, each once before any is repeated, and none twice within one draw."""

    def __init__(self, cards: Positions, generator: np.random.Generator) -> None:
        self.cards = cards
        self.generator = generator
        self.rest = cards[:0]

    def deal(self, count: int) -> Positions:
        """Return the next `count` elements, or all if there are fewer."""
        hand, self.rest = self.rest[:count], self.rest[count:]
        if missing := min(count, len(self.cards)) - len(hand):
            fresh = self.generator.permutation(self.cards)
            in_hand = np.isin(fresh, hand)
            fresh = np.concatenate([fresh[~in_hand], fresh[in_hand]])
            hand, self.rest = np.concatenate([hand, fresh[:missing]]), fresh[missing:]
        return hand
