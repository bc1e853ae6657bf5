"""Refuses inputs that are no dense tensors of one device where the formula of a loss annotates a tensor."""

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
    first: tuple[str, torch.device] | None = None
    for name in _tensors(type(loss).loss):
        value = inputs.get(name)
        if not isinstance(value, Tensor):
            _check_none(name, value, name in loss.optional)
            continue
        if value.layout != torch.strided or value.is_quantized or value.is_nested or value.has_names():
            _refuse_form(name, value)
        if not value.ndim and not value.is_meta:  # a number, which torch takes to any device
            continue
        if first is not None and first[1] != value.device:
            raise InputError(
                f"wanted all inputs on one device, found {first[0]} on {first[1]} and {name} on {value.device}; move "
                f"one, as by {name}.to({first[0]}.device)"
            )
        first = name, value.device


@cache
def _tensors(formula: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of the parameters that a formula annotates as tensors."""
    return tuple(p.name for p in inspect.signature(formula).parameters.values() if p.annotation in _TENSOR)


def _refuse_form(name: str, value: Tensor) -> None:
    if value.has_names():
        raise InputError(f"wanted {name} without names of dimensions, found {value.names}; pass {name}.rename(None)")
    if value.is_quantized:
        raise InputError(f"wanted {name} as a dense tensor, found a quantized one; pass {name}.dequantize()")
    if value.is_nested:
        raise InputError(f"wanted {name} as a dense tensor, found a nested one; pass {name}.to_padded_tensor(0.0)")
    raise InputError(f"wanted {name} as a dense tensor, found {value.layout}; pass {name}.to_dense()")


def _check_none(name: str, value: Any, optional: bool) -> None:
    if value is None and optional:
        return
    remedy = "pass one, or leave out the term" if value is None else f"convert the values, torch.as_tensor({name})"
    raise InputError(f"wanted {name} as a tensor, found {type(value).__name__}; {remedy}")
