"""A small fully connected network for tables of numbers."""

from collections.abc import Collection, Mapping
from typing import ClassVar

from torch import Tensor, nn

from lossframe.models.entries import read


class Mlp(nn.Module):
    """`depth` hidden layers with `hidden` units each, and one linear layer for each head.

    Reads `inputs` [N, F]. Builds and gives the heads named in `heads`: `prediction` [N], or [N, num_outputs] if there
    are several outputs, `logits` [N, num_outputs], their softmax `probabilities`, and `scores` [N], one number to
    rank the samples by. A batch may be empty.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"logits", "prediction", "probabilities", "scores"})

    def __init__(
        self, num_inputs: int, num_outputs: int, hidden: int = 64, depth: int = 2, heads: Collection[str] = ()
    ) -> None:
        super().__init__()
        self.num_inputs = num_inputs
        self.heads = frozenset(heads)
        widths = [num_inputs, *[hidden] * depth]
        layers = [nn.Linear(width, hidden) for width in widths[:-1]]
        self.trunk = nn.Sequential(*[step for layer in layers for step in (layer, nn.ReLU())])
        if "prediction" in self.heads:
            self.predict = nn.Linear(widths[-1], num_outputs)
        if self.heads & {"logits", "probabilities"}:
            self.classify = nn.Linear(widths[-1], num_outputs)
        if "scores" in self.heads:
            self.score = nn.Linear(widths[-1], 1)

    def forward(self, frame: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the entries that the model adds to the frame."""
        features = self.trunk(read(self, frame, "inputs", (self.num_inputs,)))
        entries: dict[str, Tensor] = {}
        if "prediction" in self.heads:
            prediction = self.predict(features)
            entries["prediction"] = prediction.squeeze(1) if prediction.shape[1] == 1 else prediction
        if self.heads & {"logits", "probabilities"}:
            entries["logits"] = self.classify(features)
        if "probabilities" in self.heads:
            entries["probabilities"] = entries["logits"].softmax(dim=1)
        if "scores" in self.heads:
            entries["scores"] = self.score(features).squeeze(1)
        return entries
