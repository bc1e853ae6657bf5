"""A small training with terms that conflict, and every method of conf/balance, for the tests of balancing."""

from collections.abc import Callable, Mapping
from functools import partial
from pkgutil import resolve_name
from typing import Any

import torch
from torch import Tensor, nn

from lossframe import Objective, configs
from lossframe.losses import BatchAllTripletLoss, HuberLoss, MSELoss
from lossframe.objectives.weighting import Weighting

METHODS = [name for name in configs.choices("balance") if name != "fixed"]
SAMPLES, STEPS, PER_EPOCH = 9, 20, 2


def method(name: str, **options: Any) -> Callable[[Mapping[str, float]], Weighting]:
    """Return what a file of conf/balance makes."""
    content = {key: 1 if value == "${seed}" else value for key, value in configs.read(f"balance/{name}").items()}
    return partial(resolve_name(content.pop("_target_")), **{**content, **options})


class Net(nn.Module):
    """A layer that all terms share, and a head for two of them."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.trunk, self.heads = nn.Linear(4, 3), nn.Linear(3, 2)
        self.double()

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        features = self.trunk(batch["x"]).tanh()
        first, second = self.heads(features).unbind(1)
        return {**batch, "features": features, "first": first, "second": second}


def batch(step: int) -> dict[str, Tensor]:
    """Return the whole batch of a step."""
    generator = torch.Generator().manual_seed(step)
    numbers = torch.randn(SAMPLES, 7, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (SAMPLES,), generator=generator)
    return {"x": numbers[:, :4], "one": numbers[:, 4], "other": 3 * numbers[:, 5] + 1, "labels": labels}


def objective(weighting: Any, terms: int = 3, **options: Any) -> Objective:
    """Return an objective of two or three terms, one of which is relational."""
    losses = {"mse": MSELoss(), "huber": HuberLoss(), "triplet": BatchAllTripletLoss(margin=1.0)}
    inputs = {
        "mse": {"prediction": "first", "target": "one"},
        "huber": {"prediction": "second", "target": "other"},
        "triplet": {"embeddings": "features"},
    }
    chosen = list(losses)[:terms]
    wired = {name: inputs[name] for name in chosen}
    return Objective({n: losses[n] for n in chosen}, inputs=wired, weighting=weighting, **options).double()
