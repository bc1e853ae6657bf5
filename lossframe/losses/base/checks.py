"""Validates the inputs and parameters of losses, and raises an `InputError` for the first that does not fit.

Checks of shapes and dtypes need no synchronisation. Checks that say "Reads the values" wait for a GPU.
"""

import math
from itertools import combinations

import torch
from torch import Tensor

from lossframe.errors import InputError, names, nearest

_ROUNDING = 1e-5
"""Largest excess of a probability over [0, 1], which rounding of an average can cause."""


def same_shape(**tensors: Tensor) -> None:
    """Require equal shapes of all tensors; losses never broadcast."""
    if len({tensor.shape for tensor in tensors.values()}) > 1:
        found = " and ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())
        raise InputError(f"wanted equal shapes, found {found}; nothing is broadcast: reshape or squeeze one of them")


def not_broadcast(**inputs: object) -> None:
    """Refuse floating inputs that would broadcast along dims of size 1 to a larger shape, as `[n]` and `[n, 1]`."""
    floats = {name: x for name, x in inputs.items() if isinstance(x, Tensor) and x.is_floating_point()}
    for (name, one), (other_name, other) in combinations(floats.items(), 2):
        if one.shape != other.shape and _core(one) == _core(other):
            grown = math.prod(torch.broadcast_shapes(one.shape, other.shape))
            if grown > one.numel():
                same_shape(**{name: one, other_name: other})


def same_length(**tensors: Tensor) -> None:
    """Require the same number of samples, the size of dim 0, in all tensors."""
    if len({tensor.shape[:1] for tensor in tensors.values()}) > 1:
        found = " and ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())
        raise InputError(f"wanted the same number of samples, found {found}")


def dimensions(wanted: str, lowest: int, highest: int | None = None, **tensors: Tensor) -> None:
    """Require from `lowest` to `highest` dimensions; the error shows `wanted`, a shape such as `[N, D]`."""
    for name, tensor in tensors.items():
        if tensor.ndim < lowest or (highest is not None and tensor.ndim > highest):
            raise InputError(f"wanted {name} {wanted}, found shape {list(tensor.shape)}")


def floating(**tensors: Tensor) -> None:
    """Require a floating dtype."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            remedy = "take its .real part or .abs()" if tensor.is_complex() else "convert it with .float()"
            raise InputError(f"wanted a floating {name}, found {tensor.dtype}; {remedy}")


def integral(**tensors: Tensor) -> None:
    """Require an integer dtype, as labels and class indices have."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
            raise InputError(f"wanted integer {name}, found {tensor.dtype}; convert it with .long()")


def within(low: float, high: float, **tensors: Tensor) -> None:
    """Require every value in `[low, high]`, and no NaN. Reads the values."""
    for name, tensor in tensors.items():
        smallest, largest = extremes(tensor)
        if not (smallest >= low and largest <= high):  # NaN fails both
            raise InputError(f"wanted {name} within [{low:g}, {high:g}], found {smallest:g} to {largest:g}")


def finite(**tensors: Tensor) -> None:
    """Require finite values. Reads the values."""
    for name, tensor in tensors.items():
        if tensor.detach().sum().isfinite():  # one pass for the usual case; a sum of finite values may also overflow
            continue
        bad = tensor.numel() - int(tensor.detach().isfinite().sum())
        if bad:
            raise InputError(f"wanted finite {name}, found {bad} of {tensor.numel()} values NaN or infinite")


def positive(**parameters: float) -> float:
    """Require a finite number above 0 for a loss's parameter, and return it."""
    ((name, value),) = parameters.items()
    if not _is_number(value) or not 0 < value < float("inf"):
        raise InputError(f"wanted {name} > 0, found {value}")
    return value


def fraction(**parameters: float) -> float:
    """Require a number in `[0, 1]` for a loss's parameter, and return it."""
    ((name, value),) = parameters.items()
    if not _is_number(value) or not 0 <= value <= 1:
        raise InputError(f"wanted {name} within [0, 1], found {value}")
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    """Require one of the known strings for a loss's parameter, and return it."""
    if value not in known:
        raise InputError(f"{name} {value!r} is unknown; it is one of {names(known)}.{nearest(value, known)}")
    return value


def size(dim: int, wanted: int, **tensors: Tensor) -> None:
    """Require that dimension `dim` of every tensor has the size `wanted`."""
    for name, tensor in tensors.items():
        if tensor.shape[dim] != wanted:
            raise InputError(f"wanted {name} with size {wanted} in dim {dim}, found shape {list(tensor.shape)}")


def inner_dim(dim: int, **tensors: Tensor) -> None:
    """Require that every tensor has a dimension `dim`, and that this is not dim 0, the dimension of the samples."""
    for name, tensor in tensors.items():
        if not -tensor.ndim < dim < tensor.ndim or dim == 0:
            raise InputError(f"wanted {name} with a dim {dim} beside the samples in dim 0, found {list(tensor.shape)}")


def elementwise(target: Tensor, **scores: Tensor) -> None:
    """Require floating scores and a real target, all of one shape."""
    floating(**scores)
    if target.is_complex():
        raise InputError(f"wanted a real target, found {target.dtype}; take its .real part or .abs()")
    same_shape(**scores, target=target)


def probabilities(**tensors: Tensor) -> None:
    """Require values within [0, 1], up to rounding. Reads the values."""
    for name, tensor in tensors.items():
        smallest, largest = extremes(tensor)
        if not (smallest > -_ROUNDING and largest < 1 + _ROUNDING):  # NaN fails both
            within(0, 1, **{name: tensor})


def not_negative(**parameters: float) -> float:
    """Require a finite number of at least 0 for a loss's parameter, and return it."""
    ((name, value),) = parameters.items()
    if not _is_number(value) or not 0 <= value < float("inf"):
        raise InputError(f"wanted {name} >= 0, found {value}")
    return value


def whole(**parameters: int) -> int:
    """Require a whole number for a loss's parameter, and return it."""
    ((name, value),) = parameters.items()
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"wanted a whole number {name}, found {value!r}")
    return value


def at_least(lowest: int, **parameters: int) -> int:
    """Require a whole number of at least `lowest` for a loss's parameter, and return it."""
    value = whole(**parameters)
    if value < lowest:
        raise InputError(f"wanted {next(iter(parameters))} >= {lowest}, found {value}")
    return value


def extremes(tensor: Tensor) -> tuple[float, float]:
    """Return the smallest and the largest value in one pass; 0 and 0, which fit all ranges, if empty or bool."""
    if not tensor.numel() or tensor.dtype == torch.bool:
        return 0, 0
    smallest, largest = tensor.detach().aminmax()
    return smallest.item(), largest.item()


def _core(tensor: Tensor) -> list[int]:
    """Return the sizes of a tensor without those that are 1."""
    return [size for size in tensor.shape if size != 1]
