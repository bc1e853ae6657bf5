"""Maps the parameters of an objective's losses to the entries of a frame, by name."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lossframe.errors import InputError, names, nearest
from lossframe.losses.base.inputs import first_batched
from lossframe.losses.base.loss import Loss

Frame = Mapping[str, Any]
"""Mapping name -> tensor of the entries of a batch and of the model's outputs."""


def wiring(term: str, loss: Loss, renamed: Mapping[str, str | None] | None) -> dict[str, str]:
    """Return the entry that each parameter of a loss reads: the one of the same name, or the one in `renamed`."""
    renamed = {} if renamed is None else renamed
    if not isinstance(renamed, Mapping):
        example = f"inputs.{term}.{next(iter(loss.reads), 'weight')}=ENTRY"
        raise InputError(f"inputs.{term}={renamed}: wanted a mapping from parameters to entries, as {example}")
    renamed = {loss.synonyms.get(str(parameter), parameter): entry for parameter, entry in renamed.items()}
    known = list(dict.fromkeys([*loss.reads, "weight", "count"]))
    for parameter, entry in renamed.items():
        key = f"inputs.{term}.{parameter}"
        if parameter not in known:
            raise InputError(f"{key}: {type(loss).__name__} reads {names(known)}.{nearest(str(parameter), known)}")
        if entry is not None and not isinstance(entry, str):
            number = f"; the weight of the whole term is weights.{term}" if parameter == "weight" else ""
            raise InputError(
                f"{key}={entry}: wanted the name of an entry or null, found {type(entry).__name__}{number}"
            )
    return {name: name for name in loss.reads} | {p: entry for p, entry in renamed.items() if entry is not None}


def is_required(loss: Loss, parameter: str, entry: str) -> bool:
    """Return whether a frame must hold an entry: an optional one too, if another name was chosen for the parameter."""
    return parameter not in loss.optional or entry != parameter


def entries(loss: Loss, wired: Mapping[str, str], frame: Frame) -> dict[str, Any]:
    """Return the inputs of a loss from a frame, or raise an `InputError` that names the missing entries.

    A loss that reads scalars alone gets the frame's number of samples as their `count`.
    """
    if isinstance(frame, Tensor | tuple | list):
        raise InputError(f"wanted a frame, a mapping from names to tensors, found {type(frame).__name__}")
    missing = [p for p, entry in wired.items() if entry not in frame and is_required(loss, p, entry)]
    if missing:
        wanted = ", ".join(_described(parameter, wired[parameter]) for parameter in missing)
        raise InputError(
            f"{type(loss).__name__} reads {wanted}, but the frame holds only {names(sorted(map(str, frame)))}"
        )
    read = {parameter: frame[entry] for parameter, entry in wired.items() if entry in frame}
    if "count" not in wired and read and first_batched(read) is None:
        read["count"] = samples(frame)
    return read


def samples(frame: Frame) -> float:
    """Return the number of this rank's samples in a frame: the length of its first tensor, 1 without a batch."""
    first = first_batched(frame)
    return 1.0 if first is None else float(first.size(0))  # which a nested tensor has too


def _described(parameter: str, entry: str) -> str:
    return repr(entry) if parameter == entry else f"{entry!r} (as {parameter!r})"
