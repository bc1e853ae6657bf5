"""Lets a training go on when a checkpoint cannot be written, as on a full disk."""

import pickle
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from lossframe.callbacks.saving import AtomicCheckpointIO
from lossframe.errors import InputError, names
from lossframe.loggers.tolerance import Tolerance

_CONTAINERS = (dict, OrderedDict, list, tuple)
_PLAIN = (torch.Tensor, str, int, float, bool, type(None))


class TolerantCheckpointIO(AtomicCheckpointIO):
    """Logs a warning when a checkpoint cannot be written; the earlier one stays, and the next one is tried when due.

    The very first checkpoint of a process must be written, or its error ends the training. It must hold only tensors
    and plain values too, or it could not be loaded. `unsaved` holds the reason for each path whose last write has
    failed, on the rank that writes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unsaved: dict[str, str] = {}
        self._tolerances: dict[str, Tolerance] = {}
        self._has_written = False

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint, or note why there is none."""
        try:
            super().save_checkpoint(checkpoint, path, storage_options)
        except (OSError, RuntimeError) as error:
            cause = _of_file_system(error)
            if cause is None:
                raise
            self.unsaved[str(path)] = str(cause)
            self._tolerance(path).fails(cause)
        else:
            self.unsaved.pop(str(path), None)
            if not self._has_written:
                _check_plain(checkpoint, path)
            self._has_written = True
            self._tolerance(path).works()

    def check(self) -> None:
        """Raise an `InputError` at the end of a run whose last checkpoints are not there."""
        if self.unsaved:
            reason = next(iter(self.unsaved.values()))
            found = names(Path(path).name for path in self.unsaved)
            raise InputError(
                f"{Path(next(iter(self.unsaved))).parent}: the last {found} could not be written ({reason}): what is "
                "there is of an earlier step; make room, and train the rest again with ckpt=.../last.ckpt"
            )

    def _tolerance(self, path: Any) -> Tolerance:
        """Return the one of a path; any checkpoint that was written shows that others can be."""
        known = self._tolerances.setdefault(str(path), Tolerance(f"The checkpoint {path}"))
        known.has_worked |= self._has_written
        return known


def is_unsaved(trainer: pl.Trainer, path: str) -> bool:
    """Return on every rank whether the last write of a checkpoint has failed."""
    io: Any = trainer.strategy.checkpoint_io
    if not isinstance(io, TolerantCheckpointIO):
        return False
    return trainer.strategy.reduce_boolean_decision(path in io.unsaved, all=False)


def _check_plain(checkpoint: dict[str, Any], path: Any) -> None:
    """Raise an `InputError` that names the object for which a checkpoint that was written cannot be loaded."""
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        found = next((f"a {_name(value)} in {place}" for place, value in _others(checkpoint, "")), str(error))
        raise InputError(
            f"{path}: wanted a checkpoint of tensors and plain values, which can be loaded, found {found}; let the "
            "`state_dict` there return tensors, numbers, texts, lists and dicts"
        ) from error


def _others(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield each object in nested containers that is neither a tensor nor a plain value, and its place."""
    if type(value) in _CONTAINERS:
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _others(each, f"{place}.{key}" if place else str(key))
    elif type(value) not in _PLAIN:
        yield place, value


def _name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _of_file_system(error: BaseException | None) -> OSError | None:
    """Return the error of the file system behind another: torch reports it as a `RuntimeError` of its archive."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error
