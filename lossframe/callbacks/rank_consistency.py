"""Refuses to train when ranks differ in configuration or initial weights."""

import hashlib
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch

from lossframe import distributed
from lossframe.errors import InputError


class RankConsistency(pl.Callback):
    """Compares the resolved configuration and the initial weights of all ranks, and refuses to train if they differ.

    `config` is a nested mapping. The `InputError` is raised on all ranks, and names the first key that differs.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(flatten(config))

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Compare the ranks before weights are synchronised."""
        if stage != "fit":
            return
        facts = {f"configuration key {key!r}": repr(value) for key, value in self.config.items()}
        facts |= {f"initial weight {name!r}": digest(p) for name, p in pl_module.named_parameters()}
        everyone = distributed.exchange(facts, 1 << 16, distributed.collective_device())
        for name in sorted(set().union(*everyone)):
            values = [rank.get(name, "nothing") for rank in everyone]
            if len(set(values)) > 1:
                found = ", ".join(f"rank {rank} has {value}" for rank, value in enumerate(values))
                raise InputError(f"the ranks differ in {name}: {found}; start all of them with the same command")


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
