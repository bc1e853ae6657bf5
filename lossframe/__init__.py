"""Logging losses: stateful, composable, the same numbers on 1 or N ranks."""

from lossframe.errors import InputError, NonFiniteError
from lossframe.loss import Loss, LossOptions
from lossframe.native import NativeLoss
from lossframe.objective import Frame, Objective
from lossframe.penalty import Penalty
from lossframe.statistics import Memory, Moments, Statistics, drain

__all__ = [
    "Frame",
    "InputError",
    "Loss",
    "LossOptions",
    "Memory",
    "Moments",
    "NativeLoss",
    "NonFiniteError",
    "Objective",
    "Penalty",
    "Statistics",
    "drain",
]
