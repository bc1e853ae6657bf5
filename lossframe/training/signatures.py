"""Compares the values of a configuration with the numbers that the signatures of its targets annotate."""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from pkgutil import resolve_name
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

from torch import Tensor

_NUMBERS = (int, float, bool, NoneType, Tensor)
Kinds = frozenset[Any]


def wrong_numbers(config: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Find values in a nested configuration that are no numbers where the signature of the `_target_` wants one.

    >>> list(wrong_numbers({"loss": {"_target_": "lossframe.losses.HuberLoss", "delta": "big"}}))
    ["loss.delta=big: wanted a number, found the text 'big'"]
    """
    kinds = _numeric_parameters(config["_target_"]) if "_target_" in config else {}
    for key, value in config.items():
        where = f"{path}.{key}" if path else str(key)
        if key in kinds and (found := _misfit(value, kinds[key])):
            remedy = f"; as in {where}={value:.0f}" if isinstance(value, float) and math.isfinite(value) else ""
            yield f"{where}={_typed(value)}: wanted {_wanted(kinds[key])}, found {found}{remedy}"
        elif isinstance(value, Mapping) and config.get("_recursive_", True):
            yield from wrong_numbers(value, where)


def _misfit(value: Any, kinds: Kinds) -> str | None:
    """Return what a value is, if it is none of the kinds of number that a parameter takes."""
    if isinstance(value, Mapping) and "_target_" in value:
        return None
    if value is None or isinstance(value, bool):
        return None if type(value) in kinds else _typed(value)
    if isinstance(value, str):
        return f"the text {value!r}"
    if isinstance(value, float) and not kinds & {float, Tensor}:
        return _typed(value)
    return None if isinstance(value, int | float) else f"{type(value).__name__} {value}"


def _typed(value: Any) -> str:
    """Return a value as it is typed on the command line."""
    return (
        {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)
    )


def _wanted(kinds: Kinds) -> str:
    number = "a number" if kinds & {float, Tensor} else "a whole number" if int in kinds else "true or false"
    return f"{number} or null" if NoneType in kinds else number


def _numeric_parameters(target: str) -> dict[str, Kinds]:
    """Return the parameters of a class or function that are annotated as numbers alone, with the kinds of number."""
    try:
        callee: Any = resolve_name(target)
        hints = get_type_hints(callee.__init__ if isinstance(callee, type) else callee)  # type: ignore[misc]
        defaults = _defaults(callee)
    except (AttributeError, ImportError, NameError, TypeError, ValueError):  # instantiating the target explains these
        return {}
    for options in filter(is_typeddict, [inner for hint in hints.values() for inner in get_args(hint)]):
        hints |= get_type_hints(options)  # of **options: Unpack[...]
    kinds = {name: _kinds(hint) for name, hint in hints.items()}
    return {
        name: kind | {type(defaults.get(name, 0))} if name in defaults else kind for name, kind in kinds.items() if kind
    }


def _defaults(callee: Callable[..., Any]) -> dict[str, Any]:
    """Return the default of each parameter that has one: a default of None is legal whatever the annotation says."""
    parameters = inspect.signature(callee).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _kinds(hint: Any) -> Kinds:
    """Return the kinds of number that an annotation allows; none if it allows anything else."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return frozenset(kinds) if all(kind in _NUMBERS for kind in kinds) else frozenset()
