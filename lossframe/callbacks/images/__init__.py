"""Callbacks that draw images of samples and of model outputs into TensorBoard."""

from lossframe.callbacks.images.confusion_matrix import ConfusionMatrix
from lossframe.callbacks.images.hard_samples import HardSamples
from lossframe.callbacks.images.projector import EmbeddingProjector
from lossframe.callbacks.images.retrieval import RetrievalExamples

__all__ = ["ConfusionMatrix", "EmbeddingProjector", "HardSamples", "RetrievalExamples"]
