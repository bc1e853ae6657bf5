"""Logging losses: stateful, composable, the same numbers on 1 or N ranks."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossframe.errors import InputError, NonFiniteError
    from lossframe.learner import Learner
    from lossframe.loss import Loss, LossOptions
    from lossframe.moments import Moments
    from lossframe.monitor import LossMonitor
    from lossframe.native import NativeLoss
    from lossframe.objective import Frame, Objective
    from lossframe.penalty import Penalty
    from lossframe.statistics import Statistics
    from lossframe.window import drain

_MODULES = {
    "InputError": "errors",
    "NonFiniteError": "errors",
    "Learner": "learner",
    "Loss": "loss",
    "LossOptions": "loss",
    "LossMonitor": "monitor",
    "NativeLoss": "native",
    "Frame": "objective",
    "Objective": "objective",
    "Penalty": "penalty",
    "Moments": "moments",
    "Statistics": "statistics",
    "drain": "window",
}

__all__ = [
    "Frame",
    "InputError",
    "Learner",
    "Loss",
    "LossMonitor",
    "LossOptions",
    "Moments",
    "NativeLoss",
    "NonFiniteError",
    "Objective",
    "Penalty",
    "Statistics",
    "drain",
]


def __getattr__(name: str) -> Any:
    """Import a noun when it is first asked for: a misspelt option is told without waiting for torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
