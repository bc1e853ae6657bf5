"""Warns of values that are recorded in a training of Lightning where no monitor reads them."""

import inspect
import warnings
from types import FrameType
from typing import Any

_warned: set[str] = set()


def warn_without_monitor(recorder: Any) -> None:
    """Warn, once for each class of module, if a LightningModule that trains calls a recorder and has no LossMonitor.

    Looks for the module in the callers of this function, and is called once for each name of a recorder.
    """
    module = _calling_module(inspect.currentframe())
    trainer = getattr(module, "_trainer", None)
    if trainer is None or trainer.state.fn != "fit" or type(module).__name__ in _warned:
        return
    if any(kind.__name__ == "LossMonitor" for each in trainer.callbacks for kind in type(each).__mro__):
        return
    _warned.add(type(module).__name__)
    warnings.warn(
        f"{type(recorder).__name__} records values that nothing reads: the Trainer of {type(module).__name__} has no "
        "LossMonitor. Add LossMonitor() to its callbacks, or return [LossMonitor()] from the module's "
        "configure_callbacks; with record=False nothing is recorded",
        stacklevel=2,
    )


def _calling_module(frame: FrameType | None) -> Any:
    """Return the LightningModule in whose method a frame was called, if there is one."""
    while frame is not None:
        caller = frame.f_locals.get("self")
        if any(kind.__name__ == "LightningModule" for kind in type(caller).__mro__):
            return caller
        frame = frame.f_back
    return None
