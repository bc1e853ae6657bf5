"""Loads a map-style data set of the user's own by worker processes, each global batch shared out over the ranks."""

import os
import random
import re
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import numpy as np
import torch
from pytorch_lightning.utilities import rank_zero_warn
from pytorch_lightning.utilities.combined_loader import CombinedLoader
from torch import Tensor
from torch.utils import _pytree
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    get_worker_info,
)

from lossframe.data.position import Position
from lossframe.data.samplers import (
    GlobalBatchSampler,
    OrderedBatchSampler,
    ShardedBatchSampler,
    ShuffledBatchSampler,
)
from lossframe.errors import InputError

_KEPT = (
    "num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context",
    "prefetch_factor", "persistent_workers", "pin_memory_device", "in_order",
)  # fmt: skip
"""Options of a `DataLoader` that a loader which replaces it keeps."""

Key = tuple[int, int]
"""The epoch of a sample, and its position in the data set."""


_SHARED: WeakSet["_Seeded"] = WeakSet()
"""The data sets that worker processes of this process read."""


class WorkerLoader:
    """Loads one rank's share of the batches of `batches` from a map-style data set; `options` are a `DataLoader`'s.

    No sample is padded or repeated. Before a sample is read, the generators of torch, numpy and Python are seeded by
    the seed, the epoch and the sample's position, so that random changes of a sample are the same for any number of
    ranks and workers. `state_dict` holds the position in the epoch as it was given out, not as workers have read ahead;
    after `load_state_dict`, the next iteration of the same epoch goes on from there.
    """

    def __init__(
        self, dataset: Dataset[Any], batches: GlobalBatchSampler, rank: int = 0, world_size: int = 1, **options: Any
    ) -> None:
        self.dataset = dataset
        self.batch_sampler = ShardedBatchSampler(batches, rank, world_size)  # where Lightning looks for `set_epoch`
        self._keys = _Keys(self.batch_sampler)
        self._loader: DataLoader[Any] = DataLoader(
            _Seeded(dataset, batches.seed, options.get("num_workers", 0)), batch_sampler=self._keys,
            generator=torch.Generator(), **options,
        )  # fmt: skip
        self._position = Position(batches)

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Any]:
        done = self._position.start()
        self._keys.start(done)
        for number, batch in enumerate(self._loader, start=done + 1):
            self._position.give_out(number)
            yield _emptied(batch) if self._keys.is_empty.popleft() else batch

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the epoch as batches were given out, the same on every rank."""
        return self._position.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the position of the loader that returned `state`."""
        self._position.load_state_dict(state, type(self).__name__)


class _Keys(Sampler[list[Key]]):
    """Turns positions into keys with the epoch, from a batch of the epoch on. An empty shard asks for one sample.

    `is_empty` says for each batch that was drawn, and is not given out yet, whether its shard is empty.
    """

    def __init__(self, shards: ShardedBatchSampler) -> None:
        self.shards = shards
        self.is_empty: deque[bool] = deque()
        self._done = 0

    def start(self, done: int) -> None:
        """Skip the first batches in the next iteration, without reading their samples."""
        self._done = done
        self.is_empty.clear()

    def __len__(self) -> int:
        return len(self.shards)

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, done = self.shards.sampler.epoch, self._done
        for number, batch in enumerate(self.shards.sampler):
            if number < done:
                continue
            shard = batch[self.shards.rank :: self.shards.world_size]
            self.is_empty.append(not shard)
            yield [(epoch, position) for position in shard or batch[:1]]


class _Seeded(Dataset[Any]):
    """Seeds all generators for each sample that it reads; in the training process itself, it restores them.

    `now` is shared with the workers: process id, epoch and position of what each of them reads.
    """

    def __init__(self, dataset: Dataset[Any], seed: int, workers: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self.now = torch.zeros(workers, 3, dtype=torch.int64).share_memory_()
        _SHARED.add(self)

    def __getitem__(self, key: Key) -> Any:
        worker = get_worker_info()
        if worker is not None:
            self.now[worker.id] = torch.tensor([os.getpid(), *key])
            found = self._read(key)
            self.now[worker.id] = 0
            return found
        states = torch.get_rng_state(), np.random.get_state(), random.getstate()
        try:
            return self._read(key)
        finally:
            torch.set_rng_state(states[0])
            np.random.set_state(states[1])
            random.setstate(states[2])

    def _read(self, key: Key) -> Any:
        word = int(np.random.SeedSequence([self.seed, *key]).generate_state(1)[0])
        torch.default_generator.manual_seed(word)
        np.random.seed(word)
        random.seed(word)
        try:
            return self.dataset[key[1]]
        except Exception as error:
            error.add_note(f"This was sample {key[1]} of the {type(self.dataset).__name__}, in epoch {key[0]}.")
            raise


@contextmanager
def naming_samples() -> Iterator[None]:
    """Name the sample that a data worker was reading when it was killed, in an `InputError`."""
    try:
        yield
    except RuntimeError as error:
        if not (found := re.match(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) ([^.]*)", str(error))):
            raise
        dead = set(map(int, found[1].split(",")))
        read = [
            f"sample {position} of the {type(each.dataset).__name__} in epoch {epoch}"
            for each in _SHARED
            for process, epoch, position in each.now.tolist()
            if process in dead
        ]
        while_read = f" while it read {' and '.join(read)}" if read else ""
        raise InputError(
            f"a data worker {found[2]}{while_read}; look at what it read, or at the memory of the machine"
        ) from error


def sharded(loaders: Any, seed: int = 0, rank: int = 0, world_size: int = 1) -> Any:
    """Return loaders of which each plain `DataLoader` is replaced by a `WorkerLoader`, in lists and mappings too.

    The batch size of a `DataLoader` is that over all ranks. A random order depends on the seed and the epoch. On
    several ranks, an iterable data set or a sampler without an attribute `rank` is an `InputError`, since every rank
    would read the same samples; a loader of another kind is warned of.
    """
    if isinstance(loaders, CombinedLoader):
        loaders.flattened = [sharded(each, seed, rank, world_size) for each in loaders.flattened]
        return loaders
    if isinstance(loaders, dict | list | tuple):
        return _pytree.tree_map(lambda each: sharded(each, seed, rank, world_size), loaders)
    batches = _global_batches(loaders, seed)
    if batches is not None:
        options = {name: getattr(loaders, name) for name in _KEPT if hasattr(loaders, name)}
        return WorkerLoader(loaders.dataset, batches, rank, world_size, **options)
    if world_size > 1 and not _shards_itself(loaders):
        _refuse(loaders)
    return loaders


def _global_batches(loader: Any, seed: int) -> GlobalBatchSampler | None:
    """Return the batches of a `DataLoader` that reads a map-style data set once, in order or in random order."""
    if not isinstance(loader, DataLoader) or type(loader).__iter__ is not DataLoader.__iter__:
        return None
    if isinstance(loader.dataset, IterableDataset) or type(loader.batch_sampler) is not BatchSampler:
        return None
    sampler, size = loader.sampler, len(loader.dataset)  # type: ignore[arg-type]
    if type(sampler) is SequentialSampler:
        return OrderedBatchSampler(size, loader.batch_sampler.batch_size, seed, loader.drop_last)
    if type(sampler) is RandomSampler and not sampler.replacement and sampler.num_samples == size:
        return ShuffledBatchSampler(size, loader.batch_sampler.batch_size, seed, loader.drop_last)
    return None


def _shards_itself(loader: Any) -> bool:
    """Return whether a sampler of a loader knows the rank that it samples for."""
    samplers = [getattr(loader, "sampler", None), batches := getattr(loader, "batch_sampler", None)]
    return any(hasattr(each, "rank") for each in [*samplers, getattr(batches, "sampler", None)])


def _refuse(loader: Any) -> None:
    """Raise an `InputError` that names what cannot be sharded; only warn of a loader that is no `DataLoader`."""
    if not isinstance(loader, DataLoader):
        rank_zero_warn(
            f"a loader of the class {type(loader).__name__} on several ranks: wanted samples of its own for each rank, "
            "which cannot be seen here; use a DataLoader or lossframe.data.WorkerLoader, or give its batch_sampler an "
            "attribute `rank` if it shards itself"
        )
        return
    if isinstance(loader.dataset, IterableDataset):
        what, remedy = f"the iterable data set {type(loader.dataset).__name__}", "use a map-style data set"
    else:
        own = loader.sampler if type(loader.batch_sampler) is BatchSampler else loader.batch_sampler
        what = f"the sampler {type(own).__name__}"
        remedy = "derive it from lossframe.data.GlobalBatchSampler for a lossframe.data.WorkerLoader"
    raise InputError(
        f"a DataLoader with {what} on several ranks: wanted samples of its own for each rank, found the same ones on "
        f"all; {remedy}, give the sampler an attribute `rank` if it shards itself, or train on one rank"
    )


def _emptied(batch: Any) -> Any:
    """Return a batch without its samples: tensors of the same shape and dtype but for a first dimension of 0."""
    if isinstance(batch, Tensor):
        return batch[:0]
    if isinstance(batch, Mapping):
        return {name: _emptied(entry) for name, entry in batch.items()}
    holds_entries = isinstance(batch, list | tuple) and any(isinstance(each, Tensor | Mapping) for each in batch)
    return [_emptied(each) for each in batch] if holds_entries else []
