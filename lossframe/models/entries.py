"""Reads the entries of a frame for a model, and checks their shapes."""

from collections.abc import Mapping

from torch import Tensor, nn

from lossframe.errors import InputError, names


def read(model: nn.Module, frame: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    """Return an entry of shape [N, *shape]; a missing entry or another shape is an `InputError`."""
    reader = type(model).__name__
    if name not in frame:
        raise InputError(f"{reader} reads {name!r}, but the frame holds only {names(frame)}")
    if tuple(frame[name].shape[1:]) != shape:
        wanted = ["N", *map(str, shape)]
        raise InputError(f"{reader} reads {name!r} [{', '.join(wanted)}], but was given {list(frame[name].shape)}")
    return frame[name]
