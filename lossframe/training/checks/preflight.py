"""Checks a configuration before it is trained: groups fit, and data and model provide what is read."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from lossframe.errors import InputError, names
from lossframe.objectives.objective import Objective
from lossframe.objectives.terms import left_over, no_term
from lossframe.training.checks import proposals, signatures
from lossframe.training.checks.provision import PLACE, Metrics, unprovided
from lossframe.training.configuration import composition, data_facts


def data_of(config: DictConfig, change: Callable[[Any], None] | None = None) -> Any:
    """Make the data of a prepared configuration, and fill in there what the data says of itself after a change.

    Raises an `InputError` if groups or values do not fit, with or without what was filled in.
    """
    check_composition(config)
    signatures.check(config, "data" if data_facts.awaits(config) else None)
    data = instantiate(config.data)
    if change is not None:
        change(data)
    if data_facts.awaits(config):
        data_facts.fill(config, data)
        check_composition(config)
        signatures.check(config)
    return data


def check_entries(
    objective: Objective, metrics: Metrics, data: object, model: object, callbacks: Iterable[object] = ()
) -> None:
    """Raise an `InputError` that names a choice to make, unless `data` and `model` provide all entries that are read.

    Both list their entries of the frame in an attribute `provides`. If one has no such attribute, nothing is checked.
    """
    problem = next(unprovided(objective, metrics, (data, model), callbacks), None)
    if problem is None:
        return
    neither = f"which {type(data).__name__} and {type(model).__name__} do not give"
    tried = ["metrics"] if problem.reader.startswith("metric ") else ["experiment"]
    tried = [] if problem.reader == PLACE else [*tried, "metrics with experiment"]  # no choice has other entries
    hint = proposals.first_working(tried, objective.reads)
    hint = hint or f"choose among {names(sorted(problem.provided))} by {problem.keys}"
    raise InputError(f"{problem.reader} reads {names(problem.missing)}, {neither}; {hint}")


def check_composition(config: DictConfig) -> None:
    """Raise an `InputError` that names a choice to make, if groups do not fit: keys or terms are missing."""
    if key := composition.unresolved(config):
        raise InputError(f"{key} reads a key that the configuration lacks; {proposals.instead_of(key, config)}")
    keyed = [config[key] if isinstance(config[key], Mapping) else {} for key in ("loss", "weights", "inputs")]
    if keyed[0] and (keys := left_over(*keyed)):
        raise InputError(f"{no_term(keys, config.loss)} {proposals.without_left_over(keys, config)}")
