"""Refuses inputs that are no dense tensors where the formula of a loss annotates a tensor."""

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lossframe.errors import InputError

if TYPE_CHECKING:
    from lossframe.losses.base.loss import Loss

_TENSOR = (Tensor, Tensor | None, "Tensor", "Tensor | None")


def check(loss: "Loss", inputs: Mapping[str, Any]) -> None:
    """Raise an `InputError` for an input that is no dense tensor, unless it is None and the loss can do without it."""
    for name in _tensors(type(loss).loss):
        value = inputs.get(name)
        if not isinstance(value, Tensor):
            _check_none(name, value, name in loss.optional)
        elif value.layout != torch.strided:
            raise InputError(f"wanted {name} as a dense tensor, found {value.layout}; pass {name}.to_dense()")


@cache
def _tensors(formula: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of the parameters that a formula annotates as tensors."""
    return tuple(p.name for p in inspect.signature(formula).parameters.values() if p.annotation in _TENSOR)


def _check_none(name: str, value: Any, optional: bool) -> None:
    if value is None and optional:
        return
    remedy = "pass one, or leave out the term" if value is None else f"convert the values, torch.as_tensor({name})"
    raise InputError(f"wanted {name} as a tensor, found {type(value).__name__}; {remedy}")
