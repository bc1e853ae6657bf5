"""Names the entries that losses, metrics and callbacks read, and that neither data nor model provides."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lossframe.errors import InputError
from lossframe.objectives.objective import Objective
from lossframe.objectives.weighting import Weighting
from lossframe.objectives.wiring import is_required
from lossframe.training.checks import model_contract

Metrics = Mapping[str, Mapping[str, Any]]
PLACE = "balance_at"


class Problem(NamedTuple):
    """A reader of entries that are not provided: their names, those that are, and the keys that choose others."""

    reader: str
    missing: list[str]
    provided: frozenset[str]
    keys: str


def objective_of(config: DictConfig) -> Objective:
    """Build the objective that a prepared configuration describes."""
    losses = instantiate(config.loss, _convert_="all")
    balance = instantiate(config.balance, _partial_=True)
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    given = {key: plain[key] for key in ("schedule", "optional", "balance_at")}
    return Objective(losses, config.weights, config.inputs, partial(_weighting, balance), **given)


def _weighting(balance: Callable[[Any], Any], weights: Mapping[str, float]) -> Weighting:
    """Make the weighting of an objective."""
    try:
        made = balance(weights)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"balance: {error}") from error
    if not isinstance(made, Weighting):
        raise InputError(f"balance: wanted a Weighting, found {type(made).__name__}; choose one, as balance=fixed")
    return made


def unprovided(
    objective: Objective, metrics: Metrics, providers: Iterable[object], callbacks: Iterable[object] = ()
) -> Iterator[Problem]:
    """Yield each term, metric and callback that reads entries which no provider lists in its attribute `provides`."""
    provided: list[Any] = [getattr(provider, "provides", None) for provider in providers]
    if None in provided:
        return
    entries = frozenset[str]().union(*provided)
    for term, loss in objective.named_losses():
        wired = {p: e for p, e in objective.inputs[term].items() if is_required(loss, p, e) and e not in entries}
        if wired:
            keys = " ".join(f"inputs.{term}.{parameter}=ENTRY" for parameter in wired)
            yield Problem(type(loss).__name__, list(wired.values()), entries, keys)
    place = objective.place.entries if objective.weighting.needs_gramian else []
    if missing := [entry for entry in place if entry not in entries]:
        yield Problem(PLACE, missing, entries, "balance_at=ENTRY, or balance_at=parameters")
    for name, metric in metrics.items():
        if missing := [entry for entry in metric["reads"] if entry not in entries]:
            yield Problem(f"metric {name!r}", missing, entries, f"metrics.{name}.reads=[ENTRY,...], or metrics=[]")
    for callback in callbacks:
        if missing := sorted(reads_of(callback) - entries):
            yield Problem(type(callback).__name__, missing, entries, "callbacks.NAME.PARAMETER=ENTRY, or leave it out")


def check_heads(model: DictConfig, objective: Objective, callbacks: Iterable[object]) -> None:
    """Raise an `InputError` if a callback alone would add layers to the model, which no loss would train.

    Models that are built here, with heads for some entries or others, have neither memory nor values.
    """
    if not model_contract.takes_heads(model):
        return
    trained = frozenset[str]().union(
        *(
            objective.inputs[term].values()
            for term in objective.losses
            if objective.weights[term] or term in objective.schedules
        )
    )
    for callback in callbacks:
        for entry in sorted(reads_of(callback) - trained):
            with torch.random.fork_rng(devices=[]), torch.device("meta"):
                built = [model_contract.build(model, heads) for heads in (trained, trained | {entry})]
            sizes = [len(list(each.parameters())) for each in built]
            if sizes[1] > sizes[0]:
                raise InputError(
                    f"{type(callback).__name__} reads {entry!r} of layers that no loss trains: add a loss that reads "
                    f"{entry!r}, choose another entry by callbacks.NAME.PARAMETER=ENTRY, or leave the callback out"
                )


def reads_of(callback: object) -> frozenset[str]:
    """Return the entries of the frame that a callback reads: its attribute `reads`, or nothing."""
    return getattr(callback, "reads", frozenset())
