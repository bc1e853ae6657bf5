"""Says how far a training is."""

from dataclasses import dataclass

from lossframe.errors import InputError, names, nearest

UNITS = ("samples", "steps", "epochs")
"""Units in which a training is measured: samples of all ranks, steps of the optimiser, epochs and their fractions."""


@dataclass(slots=True)
class Progress:
    """Counts what a training has done before its current step; None is what nobody has told."""

    samples: float = 0.0
    steps: float | None = None
    epochs: float | None = None

    def of(self, unit: str, reader: str) -> float:
        """Return the progress in a unit, or raise an `InputError` for its reader if nobody has told it."""
        found: float | None = getattr(self, unit)
        if found is None:
            raise InputError(
                f"{reader} follows the {unit} of training, which nobody has told: call objective.advance(steps=..., "
                "epochs=...) before each step of training, as a Learner does"
            )
        return found


def check_unit(key: str, unit: object) -> str:
    """Return a unit, or raise an `InputError` unless it is one of `UNITS`."""
    if unit not in UNITS:
        raise InputError(f"{key}={unit}: wanted one of {names(UNITS)}.{nearest(str(unit), UNITS)}")
    return str(unit)
