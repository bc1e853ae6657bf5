"""Solves two tasks with one network: a shared trunk, and a linear head for each task."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from lossframe.counts import check_counts
from lossframe.errors import InputError, names
from lossframe.models.entries import read


class TwoHeads(nn.Module):
    """Applies two linear layers to the features of one `trunk`, a model that gives `features` [N, `num_features`].

    The model returns the outputs `first` and `second`, [N, `num_outputs`] each, or [N] for one output; `both`, the two
    stacked along a last dimension, for metrics over both tasks; and the `features`, the place that both tasks share. A
    batch may be empty.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"both", "features", "first", "second"})

    def __init__(self, trunk: nn.Module, num_features: int, num_outputs: int) -> None:
        super().__init__()
        check_counts(self, num_features=num_features, num_outputs=num_outputs)
        self.trunk = trunk
        self.first = nn.Linear(num_features, num_outputs)
        self.second = nn.Linear(num_features, num_outputs)

    def forward(self, frame: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the entries that the model adds to the frame."""
        entries: Mapping[str, Tensor] = self.trunk(frame)
        if "features" not in entries:
            raise InputError(
                f"TwoHeads wants a trunk that gives 'features', but {type(self.trunk).__name__} gave {names(entries)}"
            )
        features = read(self, entries, "features", (self.first.in_features,))
        first, second = _single(self.first(features)), _single(self.second(features))
        return {"features": features, "first": first, "second": second, "both": torch.stack([first, second], dim=-1)}


def _single(outputs: Tensor) -> Tensor:
    return outputs.squeeze(1) if outputs.shape[1] == 1 else outputs
