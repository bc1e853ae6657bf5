"""Models, each a module whose `forward` maps a frame to the entries that the model adds."""

from lossframe.models.embedder import ConvEmbedder
from lossframe.models.frame_module import FrameModule
from lossframe.models.mlp import Mlp
from lossframe.models.siamese import Siamese
from lossframe.models.timm_embedder import TimmEmbedder
from lossframe.models.two_heads import TwoHeads

__all__ = ["ConvEmbedder", "FrameModule", "Mlp", "Siamese", "TimmEmbedder", "TwoHeads"]
