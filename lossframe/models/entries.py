"""Checks what models are given: the entries of a frame that they read, and the number of classes."""

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


def classes_of_logits(model: nn.Module, num_classes: int | None) -> int:
    """Return the number of classes of a model that has logits; an `InputError` if there is none."""
    if num_classes is None:
        raise InputError(
            f"{type(model).__name__}: wanted a number of classes for its logits, found null; set num_classes=10"
        )
    return num_classes
