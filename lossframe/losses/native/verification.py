"""Evaluates criteria of other libraries with reduction="none", and verifies on data that their values recombine."""

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lossframe.errors import InputError
from lossframe.losses.base.inputs import first_batched

VERIFIED_CALLS = 3
"""Number of first calls with two or more samples that are verified."""
Evaluate = Callable[[Any, Mapping[str, Any]], Any]
"""Calls a criterion with inputs by name, and returns its loss."""


def unreduced(loss: Any) -> Any:
    """Return a copy of a criterion that returns values, or raise an `InputError` unless it has a `reduction`."""
    if isinstance(loss, nn.Module):
        if isinstance(getattr(loss, "reduction", None), str):
            native: Any = copy.copy(loss)
            native.reduction = "none"
            return native
    elif "reduction" in _parameters(loss):
        return functools.partial(loss, reduction="none")
    raise InputError(
        f"unreduced=True wants a callable with a `reduction`, found {getattr(loss, '__name__', type(loss).__name__)} "
        "without; leave unreduced out, or wrap a function that returns a value per sample with relational=False"
    )


def reduction_of(loss: Any) -> str:
    """Return the reduction that a criterion applies."""
    if isinstance(loss, nn.Module):
        return str(loss.reduction)
    return str(_parameters(loss)["reduction"].default)


class Verification:
    """Verifies in the first calls that each value depends on its own sample, and that their mean is the criterion's."""

    def __init__(self, loss: Any) -> None:
        self.loss = loss
        self.left = VERIFIED_CALLS

    def __call__(self, values: Any, inputs: Mapping[str, Any], evaluate: Evaluate) -> None:
        """Raise an `InputError` unless the unreduced values of a batch are as promised."""
        first = first_batched(inputs)
        n = 0 if first is None else len(first)
        if not isinstance(values, Tensor) or not values.ndim or len(values) != n:
            found = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise InputError(f"unreduced=True: wanted a value for each of {n} samples, found {found}; {_REMEDY}")
        if n < 2:
            return
        self.left -= 1
        half = n // 2
        with torch.no_grad():
            alone = [
                evaluate(_without_reduction(self.loss), _part(inputs, n, k)) for k in (slice(half), slice(half, n))
            ]
            _same("the values of two halves of the batch", torch.cat(alone), values)
            if (reduction := reduction_of(self.loss)) in ("mean", "sum"):
                own = evaluate(copy.deepcopy(self.loss), inputs)
                _same(f"the {reduction} of the values", getattr(values, reduction)(), own)


_REMEDY = "leave unreduced out"


def _without_reduction(loss: Any) -> Any:
    return unreduced(copy.deepcopy(loss))


def _part(inputs: Mapping[str, Any], n: int, rows: slice) -> Mapping[str, Any]:
    """Return the samples of a batch in `rows`."""

    def part(leaf: Any) -> Any:
        return leaf[rows] if isinstance(leaf, Tensor) and leaf.ndim and len(leaf) == n else leaf

    return pytree.tree_map(part, dict(inputs))  # type: ignore[no-any-return]


def _same(what: str, wanted: Tensor, found: Tensor) -> None:
    if wanted.shape != found.shape or not torch.allclose(wanted, found, rtol=1e-4, atol=1e-6, equal_nan=True):
        raise InputError(
            f"unreduced=True: wanted a criterion whose values depend on one sample each and whose own reduction is "
            f"theirs, found that {what} differ by up to {_difference(wanted, found)}; {_REMEDY}"
        )


def _difference(wanted: Tensor, found: Tensor) -> str:
    if wanted.shape != found.shape:
        return f"their shapes, {list(wanted.shape)} and {list(found.shape)}"
    return f"{(wanted - found).abs().max().item():.3g}"


def _parameters(loss: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(loss).parameters
    except (TypeError, ValueError):
        return {}
