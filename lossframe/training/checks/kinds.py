"""Kinds of values that a key takes, by its default or an annotation, and the line that refuses one of another kind."""

from collections.abc import Mapping, Sequence
from math import isfinite, isnan
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

Kinds = frozenset[type]
_NAMES = {
    dict: "a mapping", list: "a list", str: "a text", float: "a number", int: "a whole number",
    bool: "true or false", NoneType: "null",
}  # fmt: skip
_WORDS = {None: "null", True: "true", False: "false"}


def of_default(default: Any) -> Kinds:
    """Return the kinds that are wanted where a configuration file has a default; none where it is null.

    >>> sorted(kind.__name__ for kind in of_default("1e-7"))
    ['float', 'int']
    """
    default = number(default)
    if default is None:
        return frozenset()
    if isinstance(default, Mapping):
        return frozenset({dict})
    return frozenset({float, int} if isinstance(default, float) else {type(default)})


def of_annotation(hint: Any) -> Kinds:
    """Return the kinds that a parameter's annotation allows; none if it allows anything that is no plain value."""
    from torch import Tensor  # which takes seconds; annotations are read when it is there

    plain = {Tensor: float, Path: str}
    kinds: set[type] = set()
    for each in get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,):
        origin = get_origin(each) or each
        of_list = isinstance(origin, type) and issubclass(origin, Sequence) and origin is not str
        found = [type(each) for each in get_args(each)] if origin is Literal else [plain.get(origin, origin)]
        kinds |= {list} if of_list else set(found)
    return frozenset(kinds) if kinds <= _NAMES.keys() - {dict} else frozenset()


def fits(value: Any, kinds: Kinds) -> bool:
    """Return whether a value is of one of the kinds; NaN is of none, and what a `_target_` makes is of all."""
    if isinstance(value, Mapping):
        return dict in kinds or "_target_" in value
    if isinstance(value, float) and isnan(value):
        return False
    return type(value) in kinds or (type(value) is int and float in kinds) or (type(value) is tuple and list in kinds)


def refusal(key: str, value: Any, kinds: Kinds, example: Any = None) -> str:
    """Return the line that refuses a value: what the key wants, what was found, and an example if there is one.

    >>> refusal("seed", 1.0, frozenset({int}), 3)
    'seed=1.0: wanted a whole number, found 1.0; as in seed=1'
    """
    if isinstance(value, float) and value.is_integer() and int in kinds:
        example = int(value)
    elif isinstance(value, float) and isfinite(value) and int in kinds and example is None:
        example = round(value)
    if str in kinds and isinstance(value, int | float):
        typed = f"'{key}=\"{shown(value)}\"'"
    else:
        typed = f"{key}={shown(number(example)).replace(' ', '')}" if example not in (None, {}, "") else ""
    found = f"the text {value!r}" if isinstance(value, str) else shown(value)
    return f"{key}={shown(value)}: wanted {wanted(kinds)}, found {found}{f'; as in {typed}' if typed else ''}"


def wanted(kinds: Kinds) -> str:
    """Return the names of kinds, as `a number or null`."""
    return " or ".join(name for kind, name in _NAMES.items() if kind in kinds and not (kind is int and float in kinds))


def shown(value: Any) -> str:
    """Return a value as it is typed on the command line.

    >>> shown(None)
    'null'
    """
    return _WORDS[value] if value is None or isinstance(value, bool) else str(value)


def number(value: Any) -> Any:
    """Return the number that a text such as 1e-7 is for Hydra, and not for YAML; other values as they are."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
