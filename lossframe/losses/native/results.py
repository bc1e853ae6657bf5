"""Reads the result of a callable: the loss, and further values that it names."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from lossframe.errors import InputError, names

_LOSSES = ("loss", "total")
"""Keys of a result under which the loss is looked for."""


def read(result: Any, returns: Sequence[str] | None) -> tuple[Any, dict[str, Any]]:
    """Return the loss of a result, and the values to record beside it, by name.

    A mapping or named tuple has the loss under `loss`, or else `total`; without these, the loss is the sum of all.
    `returns` names the members of a tuple. A pair may hold the loss and a mapping of values, as in Lightning.
    """
    if isinstance(result, tuple) and hasattr(result, "_asdict"):
        result = result._asdict()
    elif isinstance(result, list | tuple):
        result = _of_tuple(result, returns)
    if not isinstance(result, Mapping):
        return result, {}
    values = {str(name): value for name, value in result.items() if value is not None}
    key = next((key for key in _LOSSES if key in values), None)
    return (_sum(values) if key is None else values[key]), {n: v for n, v in values.items() if n != key}


def _of_tuple(result: Sequence[Any], returns: Sequence[str] | None) -> Any:
    """Return a tuple as a mapping, or its only member."""
    if returns is not None:
        if len(returns) != len(result):
            raise InputError(f"returned {len(result)} values, but returns={names(returns)} names {len(returns)}")
        return dict(zip(returns, result, strict=True))
    match result:
        case [loss]:
            return loss
        case [loss, Mapping() as values]:
            return {**values, "loss": loss}
    raise InputError(
        f"returned {len(result)} values without names; name them by returns=[loss,...], or return a mapping such as "
        "{'loss': ..., 'kl': ...}"
    )


def _sum(values: Mapping[str, Any]) -> Any:
    """Add all values: scalars, and tensors of one shape."""
    shapes = {tuple(value.shape) for value in values.values() if isinstance(value, Tensor) and value.ndim}
    if not values or len(shapes) > 1:
        found = (
            "nothing" if not values else " and ".join(f"{n} {list(getattr(v, 'shape', []))}" for n, v in values.items())
        )
        raise InputError(f"wanted values to add up, of one shape, or one called 'loss', found {found}")
    return sum(values.values())
