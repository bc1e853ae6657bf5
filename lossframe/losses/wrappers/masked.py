"""Evaluates a loss on the samples or elements that a mask marks."""

from dataclasses import replace
from typing import Any, Unpack

import torch
from torch import Tensor

from lossframe.errors import InputError, names
from lossframe.losses.base.inputs import Batch
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.options import LossOptions
from lossframe.losses.base.reduction import align
from lossframe.losses.wrappers.wrapper import Wrapper


class Masked(Wrapper):
    r"""Another loss where a mask is true: $\sum_i m_i\, \ell_i / \sum_i m_i$ with `reduction="mean"`.

    Reads what the wrapped loss reads, and `mask`: bool, or a number, of which 0 is false. The mask has the shape of
    the values, `[N, ...]`, or fewer of their dimensions from the left, as `[N]`; of a relational loss `[N]` only, whose
    masked samples take no part. With `invert=True` a true mask leaves out, as padding masks do. What is left out may be
    NaN, or a class that does not exist: its gradient is 0. `weight` multiplies the mask. With `missing="target"` there
    is no input `mask`: what is NaN in that input is left out, such as a measurement that some samples lack.

    >>> from lossframe.losses import MSELoss
    >>> criterion = Masked(MSELoss())
    >>> target = torch.tensor([1.0, float("nan"), 3.0])
    >>> criterion(torch.zeros(3), target, torch.tensor([True, False, True]))
    tensor(5.)
    >>> Masked(MSELoss(), missing="target")(torch.zeros(3), target)
    tensor(5.)
    """

    def __init__(
        self, loss: Loss, invert: bool = False, missing: str | None = None, **options: Unpack[LossOptions]
    ) -> None:
        super().__init__(loss, **options)
        if "mask" in self.reads:
            raise InputError(f"Masked: wanted a loss without an input 'mask', found a {type(loss).__name__}")
        if missing is not None and missing not in loss.reads:
            raise InputError(f"Masked: missing={missing!r}: wanted an input of the loss, as {names(loss.reads)}")
        if missing is not None and invert:
            raise InputError("Masked: wanted invert with a mask, found it with missing; leave one of them out")
        self.invert = invert
        self.missing = missing
        self.reads = (*loss.reads, "mask") if missing is None else loss.reads

    def loss(self, *args: Any, **inputs: Any) -> Tensor:
        """Return the values of the wrapped loss, also those outside the mask."""
        return super().loss(*args, **inputs)

    def prepared(self, batch: Batch) -> Batch:
        """Return a batch with the mask as a weight of 0 and 1."""
        inputs = dict(batch.inputs)
        given = inputs.pop("mask") if self.missing is None else _present(inputs[self.missing])
        if not isinstance(given, Tensor):
            raise InputError(f"wanted mask as a tensor, found {type(given).__name__}; torch.as_tensor(mask) makes one")
        mask = (given == 0) if self.invert else (given != 0)
        for name in self.class_inputs & inputs.keys():
            inputs[name] = _without_masked(inputs[name], mask)
        return super().prepared(replace(batch, inputs=inputs, weight=_weight(mask, batch.weight)))


def _present(entry: Any) -> Any:
    """Return where a tensor is not NaN; anything else as it is."""
    return ~entry.isnan() if isinstance(entry, Tensor) else entry


def _without_masked(classes: Tensor | None, mask: Tensor) -> Tensor | None:
    """Return class indices with 0, which is always a class, in place of those that are left out."""
    if classes is None or classes.is_floating_point() or classes.dtype == torch.bool:
        return classes
    fits = mask.ndim <= classes.ndim and mask.shape == classes.shape[: mask.ndim]
    return torch.where(mask.reshape(*mask.shape, *[1] * (classes.ndim - mask.ndim)), classes, 0) if fits else classes


def _weight(mask: Tensor, weight: Tensor | float | None) -> Tensor:
    """Return a mask times a weight: the one of fewer dimensions is matched to the other from the left."""
    numbers = mask.to(weight.dtype if isinstance(weight, Tensor) else torch.float32)
    if weight is None:
        return numbers
    if isinstance(weight, Tensor) and weight.ndim > numbers.ndim:
        numbers, weight, mask = weight, numbers, align(mask, weight) != 0
    return torch.where(mask, numbers * align(weight, numbers), 0)
