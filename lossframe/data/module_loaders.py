"""Replaces the loaders of a user's own data module, and saves their positions with its state."""

import functools
from collections.abc import Callable
from typing import Any

from pytorch_lightning.utilities.combined_loader import CombinedLoader
from torch.utils import _pytree

from lossframe import saved
from lossframe.data import position
from lossframe.data.workers import WorkerLoader, sharded
from lossframe.errors import InputError

_PROGRESS = "lossframe.progress"
"""Entry of a data module's state: the positions of its training loaders."""


def shard_loaders(data: Any, seed: int) -> None:
    """Make the methods of a data module that return loaders return `sharded` ones, for the rank of its trainer.

    The position of its training loaders becomes part of its state.
    """
    for stage in ("train", "val", "test", "predict"):
        name = f"{stage}_dataloader"
        setattr(data, name, _sharding(data, getattr(data, name), seed))
    _Progress(data)


class _Progress:
    """Saves the positions of training loaders with a data module, and sets them where the loaders are made.

    Lightning saves the positions of loaders too, and loses them where loaders are made before it has loaded them, as by
    a scheduler that reads `trainer.estimated_stepping_batches`.
    """

    def __init__(self, data: Any) -> None:
        self.made, self.own_state, self.load_own = data.train_dataloader, data.state_dict, data.load_state_dict
        self.loaders: list[WorkerLoader] = []
        self.loaded: list[dict[str, int]] = []
        data.train_dataloader = functools.wraps(self.made)(functools.partial(self.train_dataloader))
        data.state_dict, data.load_state_dict = self.state_dict, self.load_state_dict

    def train_dataloader(self) -> Any:
        loaders = self.made()
        flat = loaders.flattened if isinstance(loaders, CombinedLoader) else _pytree.tree_leaves(loaders)
        self.loaders = [each for each in flat if isinstance(each, WorkerLoader)]
        if self.loaded and len(self.loaded) != len(self.loaders):
            found = f"found {len(self.loaders)} in place of {len(self.loaded)}"
            raise InputError(f"wanted the training loaders of the checkpoint, {found}; train anew without ckpt")
        for loader, state in zip(self.loaders, self.loaded, strict=False):
            loader.load_state_dict(state)
        self.loaded = []
        return loaders

    def state_dict(self) -> dict[str, Any]:
        own: dict[str, Any] = self.own_state()
        return {**own, _PROGRESS: [loader.state_dict() for loader in self.loaders]} if self.loaders else own

    def load_state_dict(self, state: dict[str, Any]) -> None:
        saved.check(state, {...: object}, "the data module")
        saved.check(state.get(_PROGRESS, []), [position.FORM], _PROGRESS)
        self.loaded = state.get(_PROGRESS, [])
        if own := {key: each for key, each in state.items() if key != _PROGRESS}:
            self.load_own(own)


def _sharding(data: Any, made: Callable[[], Any], seed: int) -> Callable[[], Any]:
    @functools.wraps(made)  # by which Lightning sees whether the data module has such loaders
    def loaders() -> Any:
        rank, world_size = (data.trainer.global_rank, data.trainer.world_size) if data.trainer else (0, 1)
        return sharded(made(), seed, rank, world_size)

    return loaders
