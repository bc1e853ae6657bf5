"""Checks a configuration before it is trained: numbers are numbers, and data and model provide what is read."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache
from pkgutil import resolve_name
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from torch import Tensor, nn

from lossframe import configs
from lossframe.errors import InputError, names
from lossframe.objectives.objective import Objective

Metrics = Mapping[str, Mapping[str, Any]]
_NUMBERS = (int, float, bool, NoneType, Tensor)


def check_values(config: Mapping[str, Any]) -> None:
    """Raise an `InputError` if the seed is out of range, or a string stands where a `_target_` takes only a number."""
    for error in wrong_strings(config):
        raise InputError(error)
    seed = config["seed"]
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise InputError(f"seed={seed}: wanted a whole number from 0 to {2**32 - 1}")


def check_entries(
    objective: Objective, metrics: Metrics, data: object, model: object, callbacks: Iterable[object] = ()
) -> None:
    """Raise an `InputError` that names a choice to make, unless `data` and `model` provide all entries that are read.

    Both list their entries of the frame in an attribute `provides`. If one has no such attribute, nothing is checked.
    """
    provided: list[Any] = [getattr(provider, "provides", None) for provider in (data, model)]
    if None in provided:
        return
    entries = frozenset[str]().union(*provided)
    neither = f"{type(data).__name__} and {type(model).__name__} do not give"
    for term, loss in objective.named_losses():
        required = [entry for parameter, entry in objective.inputs[term].items() if parameter not in loss.optional]
        if missing := _missing(required, entries):
            hint = _loss_hint(objective.reads, entries)
            raise InputError(f"{type(loss).__name__} reads {missing}, which {neither}; {hint}")
    for name, metric in metrics.items():
        if missing := _missing(metric["reads"], entries):
            raise InputError(f"metric {name!r} reads {missing}, which {neither}; {_metric_hint(entries)}")
    for callback in callbacks:
        if missing := _missing(sorted(reads_of(callback)), entries):
            hint = f"choose among {names(sorted(entries))} by callbacks.NAME.PARAMETER=ENTRY, or leave it out"
            raise InputError(f"{type(callback).__name__} reads {missing}, which {neither}; {hint}")


def check_heads(
    build: Callable[[Collection[str]], nn.Module], objective: Objective, callbacks: Iterable[object]
) -> None:
    """Raise an `InputError` if a callback alone would add layers to the model, which no loss would train.

    `build` makes the model with heads for a collection of entries; models built here have neither memory nor values.
    """
    trained = frozenset[str]().union(
        *(objective.inputs[term].values() for term in objective.losses if objective.weights[term])
    )
    for callback in callbacks:
        for entry in sorted(reads_of(callback) - trained):
            with torch.random.fork_rng(devices=[]), torch.device("meta"):
                sizes = [len(list(build(heads).parameters())) for heads in (trained, trained | {entry})]
            if sizes[1] > sizes[0]:
                raise InputError(
                    f"{type(callback).__name__} reads {entry!r} of layers that no loss trains: add a loss that reads "
                    f"{entry!r}, choose another entry by callbacks.NAME.PARAMETER=ENTRY, or leave the callback out"
                )


def reads_of(callback: object) -> frozenset[str]:
    """Return the entries of the frame that a callback reads: its attribute `reads`, or nothing."""
    return getattr(callback, "reads", frozenset())


def experiments(reads: Collection[str]) -> list[str]:
    """Return the experiments whose data and model provide these entries, and whose own losses read most of them."""
    shared = {name: len(_read_by(name) & set(reads)) for name in configs.choices("experiment")}
    found = [name for name in shared if _provided_by(name).issuperset(reads)]
    return [name for name in found if shared[name] == max(shared[other] for other in found)]


def wrong_strings(config: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Find strings in a nested config where the signature of the `_target_` expects a number.

    >>> list(wrong_strings({"loss": {"_target_": "lossframe.losses.HuberLoss", "delta": "big"}}))
    ["loss.delta=big: wanted a number, found the text 'big'"]
    """
    numeric = _numeric_parameters(config["_target_"]) if "_target_" in config else frozenset()
    for key, value in config.items():
        where = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            yield from wrong_strings(value, where) if config.get("_recursive_", True) else ()
        elif isinstance(value, str) and key in numeric:
            yield f"{where}={value}: wanted a number, found the text {value!r}"


def _numeric_parameters(target: str) -> frozenset[str]:
    """Return the parameters of a class or function that are annotated as numbers alone."""
    try:
        callee: Any = resolve_name(target)
        hints = get_type_hints(callee.__init__ if isinstance(callee, type) else callee)  # type: ignore[misc]
    except (AttributeError, ImportError, NameError, TypeError, ValueError):  # instantiating the target explains these
        return frozenset()
    for options in filter(is_typeddict, [inner for hint in hints.values() for inner in get_args(hint)]):
        hints |= get_type_hints(options)  # of **options: Unpack[...]
    return frozenset(name for name, hint in hints.items() if _is_number(hint))


def _is_number(hint: Any) -> bool:
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else [hint]
    return all(kind in _NUMBERS for kind in kinds)


def _missing(reads: Iterable[str], entries: Collection[str]) -> str | None:
    """Return the names of the entries that are read but not provided; None if all are provided."""
    missing = [entry for entry in reads if entry not in entries]
    return names(missing) if missing else None


def _loss_hint(reads: Collection[str], entries: Collection[str]) -> str:
    if found := experiments(reads):
        return f"add {' or '.join(f'experiment={name}' for name in found)}"
    return f"no experiment does: choose among {names(sorted(entries))} by inputs.TERM.PARAMETER=ENTRY"


def _metric_hint(entries: Collection[str]) -> str:
    metrics = {name: _composed(f"metrics={name}").metrics.values() for name in configs.choices("metrics")}
    fed = [name for name, each in metrics.items() if all(set(metric.reads) <= set(entries) for metric in each)]
    return f"choose {' or '.join(f'metrics={name}' for name in fed) or 'others'}"


def _read_by(experiment: str) -> set[str]:
    inputs = _composed(f"experiment={experiment}").inputs
    return {entry for wiring in inputs.values() for entry in wiring.values() if entry}


def _provided_by(experiment: str) -> frozenset[str]:
    config = _composed(f"experiment={experiment}")
    targets = (config.data._target_, config.model._target_)
    return frozenset[str]().union(*(resolve_name(target).provides for target in targets))


@cache
def _composed(override: str) -> DictConfig:
    """Compose conf/train.yaml with one override, also while Hydra runs a job."""
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()  # Hydra refuses a second initialisation
    try:
        with initialize_config_dir(str(configs.root()), version_base="1.3"):
            return compose("train", [override])
    finally:
        GlobalHydra.instance().hydra = running
