"""Weightings combine the terms of an objective into its total."""

from lossframe.objectives.weighting.balanced import Balanced
from lossframe.objectives.weighting.base import Weighting
from lossframe.objectives.weighting.conflict import ConflictAverse
from lossframe.objectives.weighting.fixed import Fixed
from lossframe.objectives.weighting.norms import GradNorm, NormBalancer
from lossframe.objectives.weighting.torchjd import GramianWeights, RandomWeights, Scalarized
from lossframe.objectives.weighting.values import DynamicWeightAverage, Famo, RunningMean

__all__ = [
    "Balanced",
    "ConflictAverse",
    "DynamicWeightAverage",
    "Famo",
    "Fixed",
    "GradNorm",
    "GramianWeights",
    "NormBalancer",
    "RandomWeights",
    "RunningMean",
    "Scalarized",
    "Weighting",
]
