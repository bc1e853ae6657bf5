"""Refuses to train when ranks differ in configuration, initial weights or numbers of batches."""

import hashlib
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch

from lossframe import distributed
from lossframe.errors import InputError


class RankConsistency(pl.Callback):
    """Compares what must be the same on all ranks, and refuses to train if it differs.

    That is the resolved configuration, a nested mapping `config`, the initial weights, and the numbers of batches that
    each rank's loaders have: a rank without a further batch would leave the others waiting. The `InputError` is raised
    on all ranks, and names the first key that differs.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(flatten(config))

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Compare the ranks before weights are synchronised."""
        if stage != "fit":
            return
        facts = {f"configuration key {key!r}": repr(value) for key, value in self.config.items()}
        facts |= {f"initial weight {name!r}": digest(p) for name, p in pl_module.named_parameters()}
        compare(facts, 1 << 16, "start all of them with the same command")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare the numbers of training batches."""
        self._compare("train", trainer, trainer.num_training_batches)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare the numbers of validation batches, also in the sanity check, which comes before training."""
        self._compare("val", trainer, *trainer.num_val_batches)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare the numbers of test batches."""
        self._compare("test", trainer, *trainer.num_test_batches)

    def _compare(self, stage: str, trainer: pl.Trainer, *batches: float) -> None:
        """Compare the numbers of batches of a stage's loaders, whenever they may have changed; one rank never waits."""
        if trainer.world_size > 1:
            facts = {f"the number of {stage} batches of loader {k}": f"{number}" for k, number in enumerate(batches)}
            compare(
                facts, 1 << 10, "give each rank as many, as a lossframe.data.WorkerLoader does, or as many empty ones"
            )


def compare(facts: Mapping[str, str], capacity: int, remedy: str) -> None:
    """Raise an `InputError` on all ranks if their facts, name -> value of `capacity` bytes, are not the same."""
    everyone = distributed.exchange(dict(facts), capacity, distributed.collective_device())
    for name in sorted(set().union(*everyone)):
        values = [rank.get(name, "nothing") for rank in everyone]
        if len(set(values)) > 1:
            found = ", ".join(f"rank {rank} has {value}" for rank, value in enumerate(values))
            raise InputError(f"the ranks differ in {name}: {found}; {remedy}")


def flatten(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return the leaves of a nested mapping, named by dotted paths."""
    leaves: list[tuple[str, Any]] = []
    for key, value in config.items():
        name = f"{prefix}{key}"
        leaves += flatten(value, f"{name}.") if isinstance(value, Mapping) else [(name, value)]
    return leaves


def digest(parameter: torch.Tensor) -> str:
    """Return a short fingerprint of a parameter's bytes."""
    content = parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(content).hexdigest()[:12]
