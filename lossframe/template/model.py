"""The model: one trunk with two heads."""

from collections.abc import Mapping

from torch import Tensor, nn


class TwoHeads(nn.Module):
    """Maps `inputs` [N, F] to `logits` [N, C] of the classes, and to a `prediction` [N] of the target."""

    provides = frozenset({"logits", "prediction"})

    def __init__(self, num_inputs: int, num_classes: int, hidden: int) -> None:
        super().__init__()
        if hidden < 1:
            raise ValueError(f"hidden must be positive: {hidden}")  # the command names the key: model.hidden=0: ...
        self.trunk = nn.Sequential(nn.Linear(num_inputs, hidden), nn.ReLU())
        self.classify = nn.Linear(hidden, num_classes)
        self.predict = nn.Linear(hidden, 1)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the entries that the model adds to those of the batch."""
        features = self.trunk(batch["inputs"])
        return {"logits": self.classify(features), "prediction": self.predict(features).squeeze(1)}
