"""Small models, each a module whose `forward` maps a frame to the entries that the model adds."""

from lossframe.models.embedder import ConvEmbedder
from lossframe.models.mlp import Mlp

__all__ = ["ConvEmbedder", "Mlp"]
