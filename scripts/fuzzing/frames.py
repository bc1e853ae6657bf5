"""Objectives of frames with entries of wrong types, dtypes, shapes, layouts and values, or without them."""

import types
import warnings
from collections import ChainMap, OrderedDict, UserDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from table import TABLE
from torch import Tensor
from torch.masked import MaskedTensor

from fuzzing import drawing
from fuzzing.chance import FLOATS, INTEGERS, Chance
from fuzzing.endings import FailureError, ending
from lossframe import Objective

_LOSSES = [loss for loss in TABLE if loss.reads]
_OTHERS = (None, "text", 1, 2.5, True, [1.0, 2.0], {"a": 1}, object(), (), b"bytes")


def case(chance: Chance, folder: object) -> str:
    """Draw an objective and its frame, change entries of the frame, and evaluate."""
    terms = {name: chance.choose(*_LOSSES) for name in ("a", "b")[: chance.choose(1, 1, 1, 2)]}
    dtype = chance.choose(*FLOATS)
    given = {name: drawing.given(loss, chance, dtype) for name, loss in terms.items()}
    frame: dict[str, Any] = {name: x for each in given.values() for name, x in each.inputs.items()}
    wired: dict[str, dict[str, str]] = {}
    if chance.often(0.1):
        wired = {"a": {"weight": "w"}}
        frame["w"] = chance.choose(chance.uniform, chance.normal)([chance.choose(1, 2, 3, 9)])
    losses = {name: loss(**given[name].options) for name, loss in terms.items()}
    weights = {name: chance.choose(1.0, 0.0, -2.0) for name in terms}
    objective = Objective(losses, weights, wired, optional=["a"] if chance.often(0.05) else [])
    for _ in range(chance.choose(0, 1, 1, 1, 1, 2, 4)):
        _change(frame, chance)
    is_plain = all(_is_dense(x) and _is_finite(x) for x in frame.values()) and len(terms) == 1 and not wired
    given_as = (chance.choose(*_MAPPINGS) if chance.often(0.1) else dict)(frame)
    found: list[Tensor] = []
    ended = ending(lambda: found.append(objective(given_as)))
    if found and (not isinstance(found[0], Tensor) or found[0].ndim):
        raise FailureError(f"wanted a scalar, found {found[0]!r}")
    refusable = any(each.refusable for each in given.values())
    if found and is_plain and not refusable and _is_small(frame) and found[0].isnan():
        raise FailureError(f"NaN of finite entries {frame}")
    return ended


class _Batch(dict[str, Any]):
    """A dict that gives entries as attributes too, as some libraries do."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


_MAPPINGS: tuple[Callable[[dict[str, Any]], Mapping[str, Any]], ...] = (
    OrderedDict, UserDict, ChainMap, types.MappingProxyType, _Batch, lambda frame: {**frame, 3: "text"},
)  # fmt: skip


def _is_dense(x: object) -> bool:
    return (
        isinstance(x, Tensor)
        and x.layout == torch.strided
        and x.device.type == "cpu"
        and not (x.is_quantized or x.is_nested or isinstance(x, MaskedTensor))
    )


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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of imaginary parts and prototypes
            try:
                frame[name] = chance.choose(_retyped, _reshaped, _valued, _laid_out)(x, chance)
            except Exception:  # of dtypes, shapes and classes that torch does not change so
                frame[name] = chance.choose(*_OTHERS)


def _retyped(x: Tensor, chance: Chance) -> Tensor:
    types = (*FLOATS, *INTEGERS, torch.bool, torch.complex64, torch.complex128, torch.float8_e4m3fn)
    return x.to(chance.choose(*types))


def _reshaped(x: Tensor, chance: Chance) -> Tensor:
    changes = [
        lambda: x[None], lambda: x[..., None], lambda: x.reshape(-1), lambda: x[:0], lambda: x[1:], x.sum,
        lambda: x.movedim(0, -1), lambda: torch.cat([x, x]), lambda: x[..., :0], lambda: x.expand(2, *x.shape),
    ]  # fmt: skip
    return chance.choose(*changes)()


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


def _laid_out(x: Tensor, chance: Chance) -> Any:
    changes: list[Callable[[], Any]] = [
        x.to_sparse, lambda: x.detach().requires_grad_(), x.t, lambda: x.to("meta"), x.to_mkldnn, lambda: x[..., ::2],
        lambda: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), lambda: torch.nn.Parameter(x.detach()),
        lambda: torch.nested.nested_tensor([x, x]), lambda: torch.nested.nested_tensor([x, x], layout=torch.jagged),
        lambda: torch._efficientzerotensor(x.shape, dtype=x.dtype), lambda: torch.complex(x, x).conj().imag,
        lambda: x.clone().as_subclass(_Subclass), lambda: _inferred(x), x.to_sparse_csr,
        lambda: torch.masked.masked_tensor(x, torch.ones_like(x, dtype=torch.bool)), x.numpy, x.tolist,
    ]  # fmt: skip
    return chance.choose(*changes)()


class _Subclass(Tensor):
    """A tensor of a class of its own, as of images."""


@torch.inference_mode()
def _inferred(x: Tensor) -> Tensor:
    return x.clone()
