"""Words where a configuration wants numbers, found before anything is made of it."""

from collections.abc import Iterator, Mapping
from pkgutil import resolve_name
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

from torch import Tensor

_NUMBERS = (int, float, bool, NoneType, Tensor)


def misfits(config: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield what is wrong with each text in nested mappings whose `_target_` takes only a number there.

    >>> list(misfits({"loss": {"_target_": "lossframe.losses.HuberLoss", "delta": "big"}}))
    ["loss.delta=big: wanted a number, found the text 'big'"]
    """
    numeric = _numeric(config["_target_"]) if "_target_" in config else frozenset()
    for key, value in config.items():
        where = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            yield from misfits(value, where) if config.get("_recursive_", True) else ()
        elif isinstance(value, str) and key in numeric:
            yield f"{where}={value}: wanted a number, found the text {value!r}"


def _numeric(target: str) -> frozenset[str]:
    """Return the parameters of a class or function that take numbers alone, as far as it says so."""
    try:
        made: Any = resolve_name(target)
        hints = get_type_hints(made.__init__ if isinstance(made, type) else made)  # type: ignore[misc]
    except (AttributeError, ImportError, NameError, TypeError, ValueError):  # who makes it says what is wrong
        return frozenset()
    for options in filter(is_typeddict, [inner for hint in hints.values() for inner in get_args(hint)]):
        hints |= get_type_hints(options)  # of **options: Unpack[...]
    return frozenset(name for name, hint in hints.items() if _is_number(hint))


def _is_number(hint: Any) -> bool:
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else [hint]
    return all(kind in _NUMBERS for kind in kinds)
