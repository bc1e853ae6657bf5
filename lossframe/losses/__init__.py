"""The catalogue, one module per family, and what makes a loss of another: `NativeLoss` and the wrappers."""

from lossframe.losses.binary import BinaryCrossEntropyLoss, BinaryFocalLoss, HingeLoss
from lossframe.losses.center import CenterLoss
from lossframe.losses.classification import (
    CategoricalAccuracy,
    CrossEntropyLoss,
    FocalLoss,
)
from lossframe.losses.contrastive import ContrastiveLoss, NTXentLoss, PairContrastiveLoss, SupConLoss
from lossframe.losses.decorrelation import DeCovLoss, PullAwayLoss
from lossframe.losses.density import DiscretizedLogisticMixtureLoss
from lossframe.losses.native import NativeLoss
from lossframe.losses.ordinal import ClippedKappaLogLoss, KappaLogLoss, QuadraticWeightedKappaLoss
from lossframe.losses.probabilities import CategoricalCrossEntropyLoss, LogLoss
from lossframe.losses.ranking import ROCAUCLoss
from lossframe.losses.regression import (
    CosineDistanceLoss,
    GaussianNLLLoss,
    HuberLoss,
    L1Loss,
    MeanPairwiseSquaredErrorLoss,
    MSELoss,
    QuantileLoss,
)
from lossframe.losses.regularization import AuxiliaryLoss, L1L2Penalty
from lossframe.losses.segmentation import DiceLoss
from lossframe.losses.triplet import (
    BatchAllTripletLoss,
    BatchHardTripletLoss,
    BatchSemiHardTripletLoss,
    TripletMarginLoss,
)
from lossframe.losses.wrappers import CrossBatchMemory, Distilled, Masked

WRAPPERS = (CrossBatchMemory, Distilled, Masked, NativeLoss)
"""Losses that wrap one that the caller passes, and thus have no file in `conf/loss`."""

__all__ = [
    "AuxiliaryLoss",
    "BatchAllTripletLoss",
    "BatchHardTripletLoss",
    "BatchSemiHardTripletLoss",
    "BinaryCrossEntropyLoss",
    "BinaryFocalLoss",
    "CategoricalAccuracy",
    "CategoricalCrossEntropyLoss",
    "CenterLoss",
    "ClippedKappaLogLoss",
    "ContrastiveLoss",
    "CosineDistanceLoss",
    "CrossBatchMemory",
    "CrossEntropyLoss",
    "DeCovLoss",
    "DiceLoss",
    "DiscretizedLogisticMixtureLoss",
    "Distilled",
    "FocalLoss",
    "GaussianNLLLoss",
    "HingeLoss",
    "HuberLoss",
    "KappaLogLoss",
    "L1L2Penalty",
    "L1Loss",
    "LogLoss",
    "MSELoss",
    "Masked",
    "MeanPairwiseSquaredErrorLoss",
    "NTXentLoss",
    "NativeLoss",
    "PairContrastiveLoss",
    "PullAwayLoss",
    "QuadraticWeightedKappaLoss",
    "QuantileLoss",
    "ROCAUCLoss",
    "SupConLoss",
    "TripletMarginLoss",
]
