"""The catalogue: one module per family."""

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
    "CrossEntropyLoss",
    "DeCovLoss",
    "DiceLoss",
    "DiscretizedLogisticMixtureLoss",
    "FocalLoss",
    "GaussianNLLLoss",
    "HingeLoss",
    "HuberLoss",
    "KappaLogLoss",
    "L1L2Penalty",
    "L1Loss",
    "LogLoss",
    "MSELoss",
    "MeanPairwiseSquaredErrorLoss",
    "NTXentLoss",
    "PairContrastiveLoss",
    "PullAwayLoss",
    "QuadraticWeightedKappaLoss",
    "QuantileLoss",
    "ROCAUCLoss",
    "SupConLoss",
    "TripletMarginLoss",
]
