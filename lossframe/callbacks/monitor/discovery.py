"""Finds the losses and objectives inside a module, and names their curves."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from torch import nn

from lossframe import configs
from lossframe.loggers import tags
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.per_sample import PerSample
from lossframe.objectives.objective import Objective
from lossframe.objectives.weighting import Fixed
from lossframe.statistics.recorder import Recorder


class Source(NamedTuple):
    """Recorder with the function that returns the tag of one of its names; `loss` is the recorder if it is a loss."""

    recorder: Recorder
    tag: Callable[[str], str]
    loss: Loss | None = None


def find_sources(module: nn.Module) -> dict[str, Source]:
    """Return every objective, its terms, and every loss outside objectives, by unique name.

    A term has its name in the objective. A loss outside objectives is named by its class, as `cross_entropy` for
    `CrossEntropyLoss`, or by its attribute's path if two have one class or a term has that name.
    """
    sources: dict[str, Source] = {}
    for path, objective in _objectives(module):
        prefix = f"{path}." if len(list(_objectives(module))) > 1 else ""
        sources[f"objective {path}"] = Source(objective, partial(_tag_of_objective, prefix))
        for name, loss in objective.named_losses():
            sources[prefix + name] = Source(loss, partial(tags.of_loss, prefix + name), loss)
    for path, loss, name in _free_losses(module):
        unique = next(free for free in (name, path, f"{path}.{name}") if free not in sources)
        sources[unique] = Source(loss, partial(tags.of_loss, unique), loss)
    return sources


def weights(module: nn.Module) -> dict[str, float]:
    """Return the current weight of each term of objectives with fixed weights; other weightings record theirs."""
    found = list(_objectives(module))
    return {
        f"{tags.WEIGHT}/{path}.{name}" if len(found) > 1 else f"{tags.WEIGHT}/{name}": weight
        for path, objective in found
        if isinstance(objective.weighting, Fixed)
        for name, weight in objective.weights.items()
    }


def keep_samples(losses: Mapping[str, Loss]) -> None:
    """Make losses keep the values of their last batch by sample."""
    for loss in losses.values():
        loss.samples = loss.samples or PerSample()


def forget_samples(losses: Mapping[str, Loss]) -> None:
    """Drop per-sample values of an earlier batch, because not every step calls every loss."""
    for loss in losses.values():
        if loss.samples is not None:
            loss.samples.forget()


def name_of(loss: Loss) -> str:
    """Return the name of a loss's file in conf/loss, or else its class in snake case."""
    kind = type(loss).__name__
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind.removesuffix("Loss"))
    return configs.losses().get(kind, words.lower())


def _objectives(module: nn.Module) -> Iterator[tuple[str, Objective]]:
    yield from ((path, child) for path, child in module.named_modules() if isinstance(child, Objective))


def _free_losses(module: nn.Module) -> Iterator[tuple[str, Loss, str]]:
    """Yield path, loss and name of each loss outside objectives; the path is the name if two have one class."""
    inside = {id(loss) for _, objective in _objectives(module) for _, loss in objective.named_losses()}
    free = {p: m for p, m in module.named_modules() if isinstance(m, Loss) and id(m) not in inside}
    classes = Counter(type(loss) for loss in free.values())
    yield from ((p, m, name_of(m) if classes[type(m)] == 1 else p) for p, m in free.items())


def _tag_of_objective(prefix: str, name: str) -> str:
    """Return the tag of the total, or of a term's weighted value or weight."""
    if name == tags.TOTAL:
        return tags.of_loss(prefix + name)
    kind, _, term = name.partition("/")
    return f"{kind}/{prefix}{term}"
