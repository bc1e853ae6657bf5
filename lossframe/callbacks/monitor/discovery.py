"""Finds the losses and objectives inside a module, and names their curves."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple, cast

from torch import nn

from lossframe import configs
from lossframe.callbacks.monitor.owners import Claims, Owners, statistics
from lossframe.callbacks.monitor.places import Place, recorders
from lossframe.errors import InputError
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
    `CrossEntropyLoss`, or by its attribute's path if two have one class or another curve has that name. Plain lists,
    dicts and dataclasses are searched too. Raises an `InputError` if two curves would have one tag, or if a loss is a
    term of two objectives.
    """
    places = recorders(module)
    owners = Owners()
    objectives = [(place.path, place.module) for place in places if isinstance(place.module, Objective)]
    sources: dict[str, Source] = {}
    terms: dict[int, str] = {}
    for path, objective in objectives:
        prefix = f"{path}." if len(objectives) > 1 else ""
        sources |= _of_objective(path, prefix, objective, owners, terms)
    free = [place for place in places if isinstance(place.module, Loss) and id(place.module) not in terms]
    for loss, path, candidates in _free_losses(free):
        owner = f"{path} ({type(loss).__name__})"
        name = next((each for each in candidates if _is_free(each, loss, owners)), path)
        sources[name] = Source(loss, Claims(loss, owner, partial(tags.of_loss, name), owners, ["loss"]), loss)
    return sources


def weights(sources: Mapping[str, Source]) -> dict[str, float]:
    """Return the current weight of each term of objectives with fixed weights; other weightings record theirs."""
    return {
        source.tag(f"{tags.WEIGHT}/{name}"): weight
        for source in sources.values()
        if isinstance(source.recorder, Objective) and isinstance(source.recorder.weighting, Fixed)
        for name, weight in source.recorder.weights.items()
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


def _of_objective(
    path: str, prefix: str, objective: Objective, owners: Owners, terms: dict[int, str]
) -> dict[str, Source]:
    """Return the sources of an objective and its terms, and add the owners of its losses to `terms`, by identity."""
    where = f"objective {path!r}" if path else "the objective"
    named = [tags.TOTAL, *(f"{kind}/{name}" for kind in (tags.WEIGHTED, tags.WEIGHT) for name in objective.losses)]
    claims = Claims(objective, where, partial(_tag_of_objective, prefix), owners, named)
    sources = {f"/objective {path}": Source(objective, claims)}
    for name, loss in objective.named_losses():
        owner = f"term {name!r} of {where}"
        if id(loss) in terms:
            raise InputError(
                f"{terms[id(loss)]} and {owner} are one {type(loss).__name__}, so that their values would mix: give "
                "each a loss of its own, for example by copy.deepcopy"
            )
        terms[id(loss)] = owner
        claims = Claims(loss, owner, partial(tags.of_loss, prefix + name), owners, ["loss"])
        sources[prefix + name] = Source(loss, claims, loss)
    return sources


def _free_losses(places: Sequence[Place]) -> Iterator[tuple[Loss, str, list[str]]]:
    """Yield each loss outside objectives with its path and the names that it may have, the best first.

    Its class names a loss if no other has it; a loss in a plain container does not change the name of a registered one.
    """
    registered = Counter(type(place.module) for place in places if not place.plain)
    everywhere = Counter(type(place.module) for place in places)
    for place in places:
        loss, path = cast(Loss, place.module), place.path.replace("/", ".")
        classes = everywhere if place.plain else registered
        name = name_of(loss)
        yield loss, path, [name, path, f"{path}.{name}"] if classes[type(loss)] == 1 else [path, f"{path}.{name}"]


def _is_free(name: str, loss: Loss, owners: Owners) -> bool:
    """Return whether a loss may have a name: no other curve has a tag of it, and it is not the name of a total."""
    claimed = any(owners.has(each.tag(tags.of_loss(name))) for each in statistics(loss))
    return bool(name) and name != tags.TOTAL and not claimed


def _tag_of_objective(prefix: str, name: str) -> str:
    """Return the tag of the total, of what is recorded of a term or a pair, or of a value that the objective logs."""
    kind, _, term = name.partition("/")
    if kind in (tags.WEIGHTED, tags.WEIGHT, tags.GRADIENT, tags.GRADIENT_SHARE, tags.COSINE) and term:
        return f"{kind}/{prefix}{term}"
    total = tags.of_loss(prefix + tags.TOTAL)
    return total if name == tags.TOTAL else f"{total}/{name}"
