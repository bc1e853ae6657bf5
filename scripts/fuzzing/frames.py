"""Objectives of frames with entries of wrong types, dtypes, shapes, layouts and values, or without them."""

import warnings

import torch
from table import TABLE
from torch import Tensor

from fuzzing import drawing
from fuzzing.chance import FLOATS, INTEGERS, Chance
from fuzzing.endings import FailureError, ending
from lossframe import Objective

_LOSSES = [loss for loss in TABLE if loss.reads]
_OTHERS = (None, "text", 1, 2.5, True, [1.0, 2.0], {"a": 1}, object(), (), b"bytes")


def case(chance: Chance, folder: object) -> str:
    """Draw an objective and its frame, change entries of the frame, and evaluate."""
    loss = chance.choose(*_LOSSES)
    given = drawing.given(loss, chance, chance.choose(*FLOATS))
    objective = Objective({"a": loss(**given.options)}, {"a": chance.choose(1.0, 0.0, -2.0)})
    frame = dict(given.inputs)
    for _ in range(chance.choose(1, 1, 2)):
        _change(frame, chance)
    is_plain = all(_is_dense(x) and _is_finite(x) for x in frame.values())
    found: list[Tensor] = []
    ended = ending(lambda: found.append(objective(frame)))
    if found and (not isinstance(found[0], Tensor) or found[0].ndim):
        raise FailureError(f"wanted a scalar, found {found[0]!r}")
    if found and is_plain and not given.refusable and _is_small(frame) and found[0].isnan():
        raise FailureError(f"NaN of finite entries {frame}")
    return ended


def _is_dense(x: object) -> bool:
    return isinstance(x, Tensor) and x.layout == torch.strided and x.device.type == "cpu" and not x.is_quantized


def _is_finite(x: Tensor) -> bool:
    return not x.is_complex() and bool(x.double().isfinite().all())


def _is_small(frame: dict[str, Tensor]) -> bool:
    """Return whether no sum or square of the entries can overflow."""
    return all(x.double().abs().amax() < 100 for x in frame.values() if x.numel())


def _change(frame: dict[str, Tensor], chance: Chance) -> None:
    """Change one entry of a frame, or leave it out."""
    if not frame:
        return
    name = chance.choose(*frame)
    x = frame[name]
    if not _is_dense(x) or chance.often(0.1):
        frame[name] = chance.choose(*_OTHERS)
    elif chance.often(0.08):
        del frame[name]
    else:
        frame[name] = chance.choose(_retyped, _reshaped, _valued, _laid_out)(x, chance)


def _retyped(x: Tensor, chance: Chance) -> Tensor:
    types = (*FLOATS, *INTEGERS, torch.bool, torch.complex64, torch.complex128, torch.float8_e4m3fn)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of imaginary parts
        return x.to(chance.choose(*types))


def _reshaped(x: Tensor, chance: Chance) -> Tensor:
    changes = [
        lambda: x[None], lambda: x[..., None], lambda: x.reshape(-1), lambda: x[:0], lambda: x[1:], x.sum,
        lambda: x.movedim(0, -1), lambda: torch.cat([x, x]), lambda: x[..., :0], lambda: x.expand(2, *x.shape),
    ]  # fmt: skip
    try:
        return chance.choose(*changes)()
    except (IndexError, RuntimeError):  # of a scalar, or a dtype that is not added up
        return x.reshape(1, -1)


def _valued(x: Tensor, chance: Chance) -> Tensor:
    if not x.numel() or x.is_complex() or x.dtype in (torch.bool, torch.float8_e4m3fn):
        return x
    info = torch.finfo(x.dtype) if x.is_floating_point() else torch.iinfo(x.dtype)
    values = [info.min, info.max, 0, 1, *([float("nan"), float("inf")] if x.is_floating_point() else [info.max - 1])]
    if x.dtype == torch.uint64:
        values = [0, 1, 2**63 - 1]  # torch sets no larger ones
    y = x.clone().reshape(-1)
    y[int(chance.integers(0, y.numel(), []))] = chance.choose(*values)
    return y.reshape(x.shape)


def _laid_out(x: Tensor, chance: Chance) -> Tensor:
    changes = [x.to_sparse, lambda: x.detach().requires_grad_(), x.t]
    try:
        return chance.choose(*changes)()
    except (RuntimeError, NotImplementedError):  # of dtypes and shapes that have no such layout
        return x[None]
