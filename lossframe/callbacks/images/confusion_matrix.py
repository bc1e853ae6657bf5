"""Draws the confusion matrix of a validation or test."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torchmetrics.functional.classification import multiclass_confusion_matrix

from lossframe import distributed
from lossframe.callbacks.images.base import ImageCallback, named
from lossframe.callbacks.images.sampling import CAPACITY
from lossframe.errors import InputError

NUMBERED = 30
"""Largest number of classes for which counts fit into the cells."""


class ConfusionMatrix(ImageCallback):
    """Draws the exact confusion matrix of a validation or test, over all samples of all ranks.

    `logits` [N, K, ...] are scores, the highest of which is the prediction; `labels` [N, ...] are 0 to K - 1, or
    `ignore_index`. Rows are labels, columns predictions. The colour is the root of a cell's share of its row, which
    makes rare errors visible. Up to 30 classes also show their counts.
    """

    def __init__(
        self, logits: str = "logits", labels: str = "labels", ignore_index: int | None = -100, every_n_epochs: int = 1
    ) -> None:
        super().__init__({"logits": logits, "labels": labels}, every_n_epochs)
        self.ignore_index = ignore_index
        self._counts: Tensor | None = None
        if find_spec("matplotlib") is None:
            raise InputError("ConfusionMatrix draws with matplotlib: pip install lossframe[report]")

    def start(self) -> None:
        """Drop the counts of an earlier evaluation."""
        self._counts = None

    def add(self, batch_idx: int, entries: Mapping[str, Tensor]) -> None:
        """Count this rank's part of a batch."""
        logits, labels = entries["logits"].detach(), entries["labels"]
        if logits.ndim < 2 or logits[:, 0].shape != labels.shape:
            raise InputError(
                f"{type(self).__name__} reads {self.entries['logits']!r} [N, K, ...] and {self.entries['labels']!r} "
                f"[N, ...], but was given {list(logits.shape)} and {list(labels.shape)}"
            )
        if len(labels):
            counts = multiclass_confusion_matrix(logits, labels, logits.shape[1], ignore_index=self.ignore_index)
            self._counts = counts if self._counts is None else self._counts + counts

    def gather(self) -> NDArray[np.int64] | None:
        """Return the counts of all ranks [K, K], or None if no rank has a sample."""
        message = None if self._counts is None else self._counts.cpu().numpy()
        everyone = distributed.exchange(message, CAPACITY, distributed.collective_device())
        counts = [part for part in everyone if part is not None]
        return np.sum(counts, axis=0) if counts else None

    def write(self, writer: SummaryWriter, step: int, seen: NDArray[np.int64], class_names: list[str] | None) -> None:
        """Draw the matrix, and write the image."""
        writer.add_image("pictures/confusion", draw(seen, class_names), step, dataformats="HWC")


def draw(counts: NDArray[np.int64], class_names: list[str] | None) -> NDArray[np.uint8]:
    """Draw a confusion matrix [K, K] as an image [H, W, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - an optional dependency
    from matplotlib.colors import PowerNorm  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    size = len(counts)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    side = min(max(3.0, 1.2 + 0.32 * size), 12.0)  # inches
    figure = Figure((side, side), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1))
    right = np.trace(counts) / max(1, counts.sum())
    axes.set(xlabel="predicted", ylabel="label", title=f"{right:.1%} of {counts.sum():,} right")
    _name_classes(axes, size, class_names)
    if size <= NUMBERED:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.35 else "black"
            if count:
                axes.text(column, row, f"{count}", ha="center", va="center", color=colour, fontsize=8)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def _name_classes(axes: Any, size: int, class_names: list[str] | None) -> None:
    """Label the axes with class names, or with every n-th one if there are too many classes."""
    step = max(1, size // NUMBERED)
    ticks = np.arange(0, size, step)
    labels = named(torch.from_numpy(ticks), class_names)
    longest = max(map(len, labels))
    axes.set_xticks(ticks, labels, rotation=90 if longest > 3 else 0)
    axes.set_yticks(ticks, labels)
