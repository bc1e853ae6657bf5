"""Saves the states of all random number generators, of every rank, with a checkpoint."""

import random
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch

from lossframe import distributed, saved

_BYTES = 1 << 15


class Generators(pl.Callback):
    """Saves the global generators of torch, CUDA, NumPy and Python of every rank, and sets them where training resumes.

    With fewer states than ranks, as in a checkpoint of fewer ranks, each further rank is seeded anew by its number and
    the generator of rank 0. The state is tensors and numbers, which `torch.load(weights_only=True)` reads.
    """

    def __init__(self) -> None:
        self._loaded: list[dict[str, Any]] = []
        self._interrupted = False

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Gather nothing from now on: other ranks may be gone."""
        self._interrupted = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set this rank's generators to a loaded state, before the first batch is fetched."""
        if self._loaded:
            rank = distributed.rank()
            set_states(self._loaded[min(rank, len(self._loaded) - 1)])
            if rank >= len(self._loaded):
                pl.seed_everything((torch.initial_seed() + rank) % 2**32, verbose=False)
        self._loaded = []

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all ranks; must be called on all of them."""
        if self._interrupted:
            return {"ranks": [states()]}
        return {"ranks": distributed.exchange(states(), _BYTES, distributed.collective_device())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states until training starts: what is made before then may draw numbers."""
        saved.check(state_dict, {"ranks": [saved.form_of(states())]}, type(self).__name__)
        self._loaded = state_dict["ranks"]


def states() -> dict[str, Any]:
    """Return the states of this process' global generators as tensors and numbers."""
    kind, keys, *rest = cast(tuple[Any, ...], np.random.get_state(legacy=True))
    version, internal, following = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), *rest],
        "python": [version, torch.tensor(internal), following],
    }


def set_states(found: dict[str, Any]) -> None:
    """Set this process' global generators to what `states` has returned."""
    torch.set_rng_state(found["torch"].cpu())
    if found["cuda"] and len(found["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in found["cuda"]])
    kind, keys, *rest = found["numpy"]
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), *rest))
    version, internal, following = found["python"]
    random.setstate((version, tuple(internal.tolist()), following))
