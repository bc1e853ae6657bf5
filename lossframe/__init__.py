"""Logging losses: stateful, composable, the same numbers on 1 or N ranks."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossframe.callbacks.monitor.loss_monitor import LossMonitor
    from lossframe.errors import InputError, NonFiniteError
    from lossframe.losses.base.loss import Loss
    from lossframe.losses.base.options import LossOptions
    from lossframe.losses.base.penalty import Penalty
    from lossframe.losses.native import NativeLoss
    from lossframe.objectives.objective import Objective
    from lossframe.objectives.wiring import Frame
    from lossframe.statistics.metric import Statistics
    from lossframe.statistics.moments import Moments
    from lossframe.statistics.snapshot import drain
    from lossframe.training.learner import Learner
    from lossframe.training.loaded_run import LoadedRun, load_run

_MODULES = {
    "InputError": "errors",
    "NonFiniteError": "errors",
    "Learner": "training.learner",
    "LoadedRun": "training.loaded_run",
    "load_run": "training.loaded_run",
    "Loss": "losses.base.loss",
    "LossOptions": "losses.base.options",
    "LossMonitor": "callbacks.monitor.loss_monitor",
    "NativeLoss": "losses.native",
    "Frame": "objectives.wiring",
    "Objective": "objectives.objective",
    "Penalty": "losses.base.penalty",
    "Moments": "statistics.moments",
    "Statistics": "statistics.metric",
    "drain": "statistics.snapshot",
}

__all__ = [
    "Frame",
    "InputError",
    "Learner",
    "LoadedRun",
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
    "load_run",
]


def __getattr__(name: str) -> Any:
    """Import a noun when it is first asked for: a misspelt option is told without waiting for torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
