"""The catalogue: one module per family."""

from lossframe.losses.classification import CrossEntropyLoss
from lossframe.losses.metric_learning import (
    BatchAllTripletLoss,
    BatchHardTripletLoss,
    CenterLoss,
    ContrastiveLoss,
    TripletMarginLoss,
)
from lossframe.losses.regression import HuberLoss, MSELoss
from lossframe.losses.regularization import L1L2Penalty

__all__ = [
    "BatchAllTripletLoss",
    "BatchHardTripletLoss",
    "CenterLoss",
    "ContrastiveLoss",
    "CrossEntropyLoss",
    "HuberLoss",
    "L1L2Penalty",
    "MSELoss",
    "TripletMarginLoss",
]
