"""Compares the values of a configuration with the kinds that the signatures of its targets annotate."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from pkgutil import resolve_name
from types import NoneType
from typing import Any, cast, get_args, get_type_hints, is_typeddict

from omegaconf import DictConfig, OmegaConf

from lossframe.errors import InputError
from lossframe.training.checks import kinds, ranges, targets
from lossframe.training.checks.kinds import Kinds
from lossframe.training.configuration.full_keys import source


def check(config: DictConfig, only: str | None = None) -> None:
    """Raise an `InputError` if a value is of another kind than a `_target_` takes there, or out of range.

    `only` limits the check to the values under one key.
    """
    keys = [str(key) for key in config if only in (None, key)]
    values, typed = (cast(dict[str, Any], OmegaConf.to_container(config, resolve=each)) for each in (True, False))
    targets.check({key: values[key] for key in keys})
    for key, value, wanted in misfits({key: values[key] for key in keys}):
        read = source(key, typed)
        if read != "run_dir" or value is not None:  # it is chosen when the run starts
            raise InputError(kinds.refusal(read, value, wanted))
    ranges.check({key: values[key] for key in keys}, typed)


def misfits(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any, Kinds]]:
    """Yield key, value and wanted kinds where a nested configuration has another kind than a `_target_` annotates.

    >>> huber = {"_target_": "lossframe.losses.HuberLoss", "delta": "big"}
    >>> [(key, value) for key, value, _ in misfits({"loss": huber})]
    [('loss.delta', 'big')]
    """
    wanted = _parameters(config["_target_"]) if "_target_" in config else {}
    for key, value in config.items():
        where = f"{path}.{key}" if path else str(key)
        if key in wanted and not kinds.fits(value, wanted[key]):
            yield where, value, wanted[key]
        elif isinstance(value, Mapping) and config.get("_recursive_", True):
            yield from misfits(value, where)


def _parameters(target: Any) -> dict[str, Kinds]:
    """Return the parameters of a class or function that are annotated as plain values alone, with their kinds."""
    try:
        callee: Any = resolve_name(target)
        hints = get_type_hints(callee.__init__ if isinstance(callee, type) else callee)  # type: ignore[misc]
        defaults = _defaults(callee)
    except (AttributeError, ImportError, NameError, TypeError, ValueError):  # instantiating the target explains these
        return {}
    for options in filter(is_typeddict, [inner for hint in hints.values() for inner in get_args(hint)]):
        hints |= get_type_hints(options)  # of **options: Unpack[...]
    found = {name: kinds.of_annotation(hint) for name, hint in hints.items()}
    return {
        name: kind | ({NoneType} if defaults.get(name, 0) is None else set()) for name, kind in found.items() if kind
    }


def _defaults(callee: Callable[..., Any]) -> dict[str, Any]:
    """Return the default of each parameter that has one: a default of None is legal whatever the annotation says."""
    parameters = inspect.signature(callee).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}
