"""Pictures beside the curves: callbacks that draw the validation and test splits into TensorBoard."""

from lossframe.pictures.confusion import ConfusionMatrix
from lossframe.pictures.embeddings import EmbeddingProjector
from lossframe.pictures.hard import HardSamples
from lossframe.pictures.retrieval import RetrievalExamples

__all__ = ["ConfusionMatrix", "EmbeddingProjector", "HardSamples", "RetrievalExamples"]
