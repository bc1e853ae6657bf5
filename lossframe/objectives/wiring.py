"""Maps the parameters of an objective's losses to the entries of a frame, by name."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from lossframe.errors import InputError, names, nearest
from lossframe.losses.base.inputs import first_batched
from lossframe.losses.base.loss import Loss

Frame = Mapping[str, Any]
"""Mapping name -> tensor of the entries of a batch and of the model's outputs."""

RESERVED = frozenset(["total"])
"""Names that a term cannot have, because curves of the objective have them."""


def wiring(term: str, loss: Loss, renamed: Mapping[str, str | None]) -> dict[str, str]:
    """Return the entry that each parameter of a loss reads: the one of the same name, or the one in `renamed`."""
    known = list(dict.fromkeys([*loss.reads, "weight", "count"]))
    for parameter in renamed:
        if parameter not in known:
            raise InputError(
                f"inputs.{term}.{parameter}: {type(loss).__name__} reads {names(known)}.{nearest(parameter, known)}"
            )
    return {name: name for name in loss.reads} | {p: entry for p, entry in renamed.items() if entry is not None}


def entries(loss: Loss, wired: Mapping[str, str], frame: Frame) -> dict[str, Any]:
    """Return the inputs of a loss from a frame, or raise an `InputError` that names the missing entries.

    A loss that reads scalars alone gets the frame's number of samples as their `count`.
    """
    missing = [p for p, entry in wired.items() if entry not in frame and p not in loss.optional]
    if missing:
        wanted = ", ".join(_described(parameter, wired[parameter]) for parameter in missing)
        raise InputError(f"{type(loss).__name__} reads {wanted}, but the frame holds only {names(sorted(frame))}")
    read = {parameter: frame[entry] for parameter, entry in wired.items() if entry in frame}
    if "count" not in wired and read and first_batched(read) is None:
        read["count"] = samples(frame)
    return read


def samples(frame: Frame) -> float:
    """Return the number of this rank's samples in a frame: the length of its first tensor, 1 without a batch."""
    first = first_batched(frame)
    return 1.0 if first is None else float(len(first))


def check_terms(losses: Mapping[str, Loss], weights: Mapping[str, float], inputs: Mapping[str, Any]) -> None:
    """Raise an `InputError` unless every term is a loss that can be summed, and weights and inputs name terms."""
    if not losses:
        raise InputError("an Objective wants at least one loss, found none; choose one, as in loss=triplet")
    for given, what in ((weights, "weights"), (inputs, "inputs")):
        for name in given:
            if name not in losses:
                raise InputError(f"{what}.{name}: the terms are {names(losses)}.{nearest(name, losses)}")
    for name, loss in losses.items():
        if "." in name or "/" in name or not name or hasattr(nn.ModuleDict, name):
            raise InputError(
                f"a term cannot be called {name!r}: choose a name without dots and slashes that no module has already"
            )
        if name in RESERVED:
            raise InputError(f"a term cannot be called {name!r}: that is a curve of the objective; choose another name")
        if not isinstance(loss, Loss):
            raise InputError(f"term {name!r} is a {type(loss).__name__}; wanted a Loss: wrap it in NativeLoss(...)")
        shared = [other for other, same in losses.items() if other != name and any(m is same for m in loss.modules())]
        if shared:
            raise InputError(
                f"terms {name!r} and {shared[0]!r} hold one {type(losses[shared[0]]).__name__}, whose statistics would "
                "mix; give each term its own loss, as by copy.deepcopy"
            )
        if loss.reduction == "none":
            raise InputError(f"term {name!r} has reduction='none'; an Objective adds scalars: choose another")


def _described(parameter: str, entry: str) -> str:
    return repr(entry) if parameter == entry else f"{entry!r} (as {parameter!r})"
