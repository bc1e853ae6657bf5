"""Refuses inputs that are no dense tensors of one device where the formula of a loss annotates a tensor."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.masked import MaskedTensor

from lossframe.errors import InputError

if TYPE_CHECKING:
    from lossframe.losses.base.loss import Loss

_TENSOR = (Tensor, Tensor | None, "Tensor", "Tensor | None")


def check(loss: "Loss", inputs: Mapping[str, Any]) -> None:
    """Raise an `InputError` for an input that is no dense tensor, unless it is None and the loss can do without it."""
    first: tuple[str, Tensor] | None = None
    for name in _tensors(type(loss).loss):
        value = inputs.get(name)
        if not isinstance(value, Tensor):
            _check_none(name, value, name in loss.optional)
            continue
        _check_dense(name, value)
        if first is not None and value.device != first[1].device:
            _check_device(name, value, *first)
        if first is None or value.ndim:
            first = name, value


@cache
def _tensors(formula: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of the parameters that a formula annotates as tensors."""
    return tuple(p.name for p in inspect.signature(formula).parameters.values() if p.annotation in _TENSOR)


def _is_masked(value: Tensor) -> bool:
    return type(value) is not Tensor and isinstance(value, MaskedTensor)


def check_weight(weight: Tensor, inputs: Sequence[Tensor]) -> None:
    """Raise an `InputError` unless a weight is a dense tensor of real numbers on the device of the inputs."""
    _check_dense("weight", weight)
    if weight.is_complex():
        raise InputError(f"wanted a real weight, found {weight.dtype}; pass weight.real")
    if inputs and weight.device != inputs[0].device and (weight.ndim or weight.is_meta):
        raise InputError(f"wanted weight on the inputs' device, {inputs[0].device}, found it on {weight.device}")


def _check_device(name: str, value: Tensor, first: str, other: Tensor) -> None:
    """Raise an `InputError` for tensors of two devices, unless one is a number, which torch takes to any device."""
    if value.is_meta or other.is_meta or (value.ndim and other.ndim):
        raise InputError(
            f"wanted all inputs on one device, found {first} on {other.device} and {name} on {value.device}; move "
            f"one, as by {name}.to({first}.device)"
        )


def _check_dense(name: str, value: Tensor) -> None:
    """Raise an `InputError` for a tensor that is not dense, or has no memory, which some functions of torch read."""
    special = value._is_zerotensor() or _is_masked(value)
    if value.layout == torch.strided and not (value.is_quantized or value.is_nested or special):
        return
    if value.is_quantized:
        raise InputError(f"wanted {name} as a dense tensor, found a quantized one; pass {name}.dequantize()")
    if value._is_zerotensor():
        raise InputError(f"wanted {name} as a dense tensor, found one without memory; pass {name}.clone()")
    if _is_masked(value):
        remedy = f"pass {name}.get_data(), with {name}.get_mask() as the mask or the weight"
        raise InputError(f"wanted {name} as a dense tensor, found a MaskedTensor; {remedy}")
    if value.is_nested:
        raise InputError(f"wanted {name} as a dense tensor, found a nested one; pass {name}.to_padded_tensor(0.0)")
    raise InputError(f"wanted {name} as a dense tensor, found {value.layout}; pass {name}.to_dense()")


def _check_none(name: str, value: Any, optional: bool) -> None:
    if value is None and optional:
        return
    remedy = "pass one, or leave out the term" if value is None else f"convert the values, torch.as_tensor({name})"
    raise InputError(f"wanted {name} as a tensor, found {type(value).__name__}; {remedy}")
