"""Solves several tasks with one network: a shared trunk, and a linear head for each task."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lossframe.counts import check_counts
from lossframe.errors import InputError, names


class MultiTask(nn.Module):
    """Applies a linear layer for each task to the features of one `trunk`, a model that gives `features` [N, D].

    `tasks` names the output of each task, with its number of values: an entry [N, K], or [N] for one value. `stacked`
    names an entry that holds the outputs of all tasks, [N, K, T] or [N, T], for metrics over all of them. The model
    also returns the `features`, the place that all tasks share. A batch may be empty.
    """

    def __init__(
        self, trunk: nn.Module, num_features: int, tasks: Mapping[str, int], stacked: str | None = None
    ) -> None:
        super().__init__()
        check_counts(self, num_features=num_features, **tasks)
        if stacked is not None and len(set(tasks.values())) > 1:
            raise InputError(
                f"MultiTask: stacked={stacked} wanted tasks with one number of values, found {dict(tasks)}"
            )
        self.trunk = trunk
        self.stacked = stacked
        self.heads = nn.ModuleDict({task: nn.Linear(num_features, count) for task, count in tasks.items()})
        self.provides = frozenset({"features", *tasks, *([] if stacked is None else [stacked])})

    def forward(self, frame: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the entries that the model adds to the frame."""
        entries: Mapping[str, Tensor] = self.trunk(frame)
        if "features" not in entries:
            raise InputError(
                f"MultiTask wants a trunk that gives 'features', but {type(self.trunk).__name__} gave {names(entries)}"
            )
        features = entries["features"]
        outputs = {task: _single(head(features)) for task, head in self.heads.items()}
        together = {} if self.stacked is None else {self.stacked: torch.stack(list(outputs.values()), dim=-1)}
        return {"features": features, **outputs, **together}


def _single(outputs: Tensor) -> Tensor:
    return outputs.squeeze(1) if outputs.shape[1] == 1 else outputs
