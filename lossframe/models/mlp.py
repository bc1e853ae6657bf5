"""Predicts from tables of numbers with a small fully connected network."""

from collections.abc import Collection, Mapping
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from lossframe.counts import check_counts
from lossframe.models.entries import read


class Mlp(nn.Module):
    """Applies `depth` hidden layers with `hidden` units each, and one linear layer for each head.

    The model reads `inputs` [N, F], and returns the outputs that `heads` names: `prediction` [N], or [N, num_outputs]
    for several outputs, its `variance`, `logits` [N, num_outputs], their softmax `probabilities`, `scores` [N], one
    number to rank samples by, their sigmoid `chance`, `features` [N, embedding_size], and `embeddings`, the features
    scaled to length 1. With either of these, the features are a linear layer that the other heads read. A batch may be
    empty.
    """

    provides: ClassVar[frozenset[str]] = frozenset(
        {"chance", "embeddings", "features", "logits", "prediction", "probabilities", "scores", "variance"}
    )

    def __init__(
        self, num_inputs: int, num_outputs: int, hidden: int = 64, depth: int = 2, embedding_size: int = 64,
        heads: Collection[str] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        check_counts(self, num_inputs=num_inputs, num_outputs=num_outputs, hidden=hidden, embedding_size=embedding_size)
        check_counts(self, least=0, most=1000, depth=depth)
        self.num_inputs = num_inputs
        self.heads = frozenset(heads)
        widths = [num_inputs, *[hidden] * depth]
        layers = [nn.Linear(width, hidden) for width in widths[:-1]]
        self.trunk = nn.Sequential(*[step for layer in layers for step in (layer, nn.ReLU())])
        if self.heads & {"embeddings", "features"}:
            self.project = nn.Linear(widths[-1], embedding_size)
            widths.append(embedding_size)
        if "prediction" in self.heads:
            self.predict = nn.Linear(widths[-1], num_outputs)
        if "variance" in self.heads:
            self.doubt = nn.Linear(widths[-1], num_outputs)
        if self.heads & {"logits", "probabilities"}:
            self.classify = nn.Linear(widths[-1], num_outputs)
        if self.heads & {"scores", "chance"}:
            self.score = nn.Linear(widths[-1], 1)

    def forward(self, frame: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the entries that the model adds to the frame."""
        features = self.trunk(read(self, frame, "inputs", (self.num_inputs,)))
        entries: dict[str, Tensor] = {}
        if self.heads & {"embeddings", "features"}:
            features = entries["features"] = self.project(features)
            entries["embeddings"] = F.normalize(features, dim=1, eps=1e-6)
        if "prediction" in self.heads:
            entries["prediction"] = _single(self.predict(features))
        if "variance" in self.heads:
            entries["variance"] = _single(F.softplus(self.doubt(features)))
        if self.heads & {"logits", "probabilities"}:
            entries["logits"] = self.classify(features)
        if "probabilities" in self.heads:
            entries["probabilities"] = entries["logits"].softmax(dim=1)
        if self.heads & {"scores", "chance"}:
            entries["scores"] = self.score(features).squeeze(1)
        if "chance" in self.heads:
            entries["chance"] = entries["scores"].sigmoid()
        return entries


def _single(outputs: Tensor) -> Tensor:
    return outputs.squeeze(1) if outputs.shape[1] == 1 else outputs
