"""Says what an object is that stands where a loss or a criterion is wanted, and what to do."""

import functools
from collections.abc import Mapping
from typing import Any

from lossframe.errors import names
from lossframe.losses.base.loss import Loss
from lossframe.statistics.recorder import Recorder


def loss_remedy(found: Any) -> str:
    """Say what an object is that is no `Loss`, and how to make one of the object.

    >>> import torch
    >>> loss_remedy(torch.nn.MSELoss)
    'is the class MSELoss; wanted a Loss: call the class and wrap the result, NativeLoss(MSELoss(...))'
    >>> loss_remedy(torch.nn.MSELoss())
    'is a MSELoss; wanted a Loss: wrap it in NativeLoss(...)'
    """
    what, remedy = _what_and_remedy(found)
    return f"{what}; wanted a Loss: {remedy or 'wrap it in NativeLoss(...)'}"


def criterion_remedy(found: Any) -> str | None:
    """Say what an object is that `NativeLoss` cannot wrap, and what to do; return None for any other object."""
    what, remedy = _what_and_remedy(found)
    return remedy and f"{what}; wanted a callable: {remedy}"


def _what_and_remedy(found: Any) -> tuple[str, str | None]:
    """Return what an object is, and what to do unless `NativeLoss` can wrap the object as it stands."""
    made = found.func if isinstance(found, functools.partial) else found
    if isinstance(made, type):
        partial = "" if made is found else "partial of the "
        called = f"call the {'partial' if partial else 'class'}{_wrapped(made)}{_without_partial(made is not found)}"
        return f"is {'a' if partial else 'the'} {partial}class {made.__name__}", called
    if found is None:
        return "is None", "leave out the term, its weight and its inputs"
    if isinstance(found, Mapping):
        return _of_mapping(found)
    if isinstance(found, Recorder) and not isinstance(found, Loss):
        return f"is an {type(found).__name__}", "add the losses of the nested objective as terms, each under a name"
    if not callable(found):
        return f"is {found!r}, of type {type(found).__name__}", "pass a loss, such as MSELoss()"
    return f"is a {type(found).__name__}", None


def _wrapped(made: type) -> str:
    if issubclass(made, Loss):
        return f", {made.__name__}(...)"
    return f" and wrap the result, NativeLoss({made.__name__}(...))"


def _without_partial(is_partial: bool) -> str:
    return "; in a configuration leave _partial_ out" if is_partial else ""


def _of_mapping(found: Mapping[Any, Any]) -> tuple[str, str]:
    if "_target_" in found:
        return f"is a configuration of {found['_target_']}", "make the loss by hydra.utils.instantiate"
    remedy = "choose the loss that the keys belong to, as in loss=[triplet,center], or remove the keys"
    return f"is a mapping of {names(found)} without _target_", remedy
