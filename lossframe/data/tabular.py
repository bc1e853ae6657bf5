"""Provides tables from scikit-learn: two regressions and one binary classification; none needs a download."""

from abc import ABC
from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from torch import Tensor

from lossframe.counts import check_given_counts
from lossframe.data.in_memory import DataOptions, InMemoryData
from lossframe.data.samplers import shuffled


class TabularData(InMemoryData, ABC):
    """Abstract base: provides `inputs` float32 [B, F], standardised over the training samples, `target` and `index`."""

    provides = frozenset({"index", "inputs", "target"})

    def __init__(self, num_inputs: int | None, num_outputs: int | None, **options: Unpack[DataOptions]) -> None:
        options.setdefault("sampler", shuffled)
        super().__init__(**options)
        check_given_counts(self, num_inputs=num_inputs, num_outputs=num_outputs)
        self.num_inputs = num_inputs
        self.num_outputs = num_outputs

    def describe(self, frame: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the number of columns, and the number of outputs that predict the target."""
        return {"num_inputs": frame["inputs"].shape[1], "num_outputs": 1}

    def prepare(self, frame: dict[str, Tensor], train: Tensor) -> dict[str, Tensor]:
        """Scale the columns to mean 0 and standard deviation 1 over the training samples."""
        return frame | {"inputs": self.standardised("inputs", frame["inputs"], train)}

    def standardised(self, name: str, values: Tensor, train: Tensor) -> Tensor:
        """Scale columns to mean 0 and standard deviation 1 over the rows `train`; constant ones are only shifted."""
        mean, std = self.fit(f"scale of {name}", lambda: _scale(values, train))
        return ((values.double() - mean) / std).to(values.dtype)


class Diabetes(TabularData):
    """Loads 442 patients with 10 measurements; `target` is the standardised progression of the disease in a year."""

    def __init__(self, num_inputs: int = 10, num_outputs: int = 1, **options: Unpack[DataOptions]) -> None:
        super().__init__(num_inputs, num_outputs, **options)

    def load(self) -> dict[str, Tensor]:
        """Return the measurements in their original units, and the progression."""
        inputs, target = load_diabetes(return_X_y=True, scaled=False)
        return {"inputs": torch.from_numpy(inputs).float(), "target": torch.from_numpy(target).float()}

    def prepare(self, frame: dict[str, Tensor], train: Tensor) -> dict[str, Tensor]:
        """Scale columns and target to mean 0 and standard deviation 1 over the training samples."""
        return super().prepare(frame, train) | {"target": self.standardised("target", frame["target"], train)}


class BreastCancer(TabularData):
    """Loads 569 tumours with 30 measurements; `labels` int64 are 0 malignant, 1 benign; `target` as floats."""

    provides = TabularData.provides | {"labels"}
    class_names: ClassVar = ["malignant", "benign"]

    def __init__(
        self, num_inputs: int = 30, num_outputs: int = 2, num_classes: int = 2, **options: Unpack[DataOptions]
    ) -> None:
        super().__init__(num_inputs, num_outputs, **options)
        check_given_counts(self, num_classes=num_classes)
        self.num_classes = num_classes

    def load(self) -> dict[str, Tensor]:
        """Return the measurements in their original units, and the labels."""
        inputs, labels = load_breast_cancer(return_X_y=True)
        labels = torch.from_numpy(labels).long()
        return {"inputs": torch.from_numpy(inputs).float(), "labels": labels, "target": labels.float()}

    def describe(self, frame: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the number of columns, and the number of classes, each of which has one output."""
        classes = len(np.unique(frame["labels"].numpy()))
        return super().describe(frame) | {"num_outputs": classes, "num_classes": classes}


class DigitHalves(TabularData):
    """Loads scikit-learn's 1,797 digits: the upper 32 pixels as inputs, the lower 32 as `target` [B, 32] in [0, 1].

    All inputs are divided by one standard deviation, because some pixels are hardly ever dark.
    """

    def __init__(self, num_inputs: int = 32, num_outputs: int = 32, **options: Unpack[DataOptions]) -> None:
        super().__init__(num_inputs, num_outputs, **options)

    def load(self) -> dict[str, Tensor]:
        """Return the upper halves as inputs, and the lower halves as targets."""
        upper, lower = torch.from_numpy(load_digits(return_X_y=True)[0] / 16).float().split(32, dim=1)
        return {"inputs": upper, "target": lower}

    def prepare(self, frame: dict[str, Tensor], train: Tensor) -> dict[str, Tensor]:
        """Scale the pixels to mean 0 each, and to a mean square of 1 over all, over the training samples."""
        inputs = frame["inputs"]
        mean = self.fit("mean of inputs", lambda: inputs[train].mean(dim=0))
        std = self.fit("scale of inputs", lambda: (inputs - mean)[train].square().mean().sqrt())
        return frame | {"inputs": (inputs - mean) / std}

    def describe(self, frame: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the number of pixels in each half."""
        return {"num_inputs": frame["inputs"].shape[1], "num_outputs": frame["target"].shape[1]}


def _scale(values: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of columns over the rows `train`, 1 for constant columns."""
    exact = values[train].double()
    mean, std = exact.mean(dim=0), exact.std(dim=0, correction=0)
    rounding = 1e-6 if values.dtype == torch.float32 else 1e-12  # of the mean
    return mean, torch.where(std <= rounding * exact.abs().amax(dim=0), 1, std)
