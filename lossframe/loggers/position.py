"""Defines the three x axes of curves: samples seen, optimiser steps and epochs."""

from typing import Any, Literal, NamedTuple, get_args

from lossframe.errors import InputError, names, nearest

Axis = Literal["samples", "steps", "epochs"]


class Position(NamedTuple):
    """Place of a point on each of the three x axes.

    `samples` are the training samples that all ranks have seen. `steps` and `epochs` are the step and the epoch that
    Lightning passes to loggers, so that a point has the same step as metrics that the module logs itself.
    """

    samples: int
    steps: int
    epochs: int

    @classmethod
    def of(cls, trainer: Any, samples: int) -> "Position":
        """Return the position of a trainer whose ranks have seen a number of samples."""
        epochs, steps = trainer.fit_loop.epoch_progress.current, trainer.fit_loop.epoch_loop._batches_that_stepped
        if trainer.training and epochs.processed == epochs.ready:
            steps -= 1  # at an epoch's end Lightning logs with the number of the last batch, though it is counted
        return cls(samples, max(0, steps), trainer.current_epoch)

    def on(self, axis: str) -> int:
        """Return the place on one axis."""
        place: int = getattr(self, axis)
        return place


def check_axis(axis: str) -> str:
    """Return the name of an x axis, or raise an `InputError`."""
    known = get_args(Axis)
    if axis not in known:
        raise InputError(f"LossMonitor: x={axis!r} is no x axis; wanted one of {names(known)}.{nearest(axis, known)}")
    return axis
