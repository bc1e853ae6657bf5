"""Small models, each a module from frame to frame: `forward` gives the entries that it adds."""

from lossframe.models.embedder import ConvEmbedder
from lossframe.models.mlp import Mlp

__all__ = ["ConvEmbedder", "Mlp"]
