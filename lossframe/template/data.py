"""The data: three cultivars of wine, by twelve measurements of each sample."""

from collections.abc import Mapping
from typing import Any

import torch
from sklearn.datasets import load_wine
from torch import Tensor

from lossframe.data import InMemoryData


class Wine(InMemoryData):
    """Loads 178 wines: `inputs` [N, 12], the class `labels` [N], and the alcohol content `target` [N], standardised."""

    provides = frozenset({"index", "inputs", "labels", "target"})

    def __init__(self, num_inputs: int = 12, num_classes: int = 3, **options: Any) -> None:
        super().__init__(**options)
        self.num_inputs = num_inputs
        self.num_classes = num_classes

    def load(self) -> dict[str, Tensor]:
        """Return the entries of all samples."""
        measured, labels = load_wine(return_X_y=True)
        columns = torch.from_numpy(measured).float()
        return {"inputs": columns[:, 1:], "labels": torch.from_numpy(labels).long(), "target": columns[:, 0]}

    def describe(self, frame: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return what the data says about options that conf/data/wine.yaml sets."""
        return {"num_inputs": frame["inputs"].shape[1], "num_classes": int(frame["labels"].max()) + 1}

    def prepare(self, frame: dict[str, Tensor], train: Tensor) -> dict[str, Tensor]:
        """Scale measurements and target to mean 0 and standard deviation 1 over the training samples."""
        scaled = {}
        for name in ("inputs", "target"):
            std, mean = torch.std_mean(frame[name][train], dim=0)
            scaled[name] = (frame[name] - mean) / std
        return frame | scaled
