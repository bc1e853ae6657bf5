"""Weightings combine the terms of an objective into its total."""

from lossframe.objectives.weighting.base import Weighting
from lossframe.objectives.weighting.fixed import Fixed

__all__ = ["Fixed", "Weighting"]
