"""Event files of TensorBoard as plain data."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

Floats = NDArray[np.float64]

KEPT = {"scalars": 0, "histograms": 0, "tensors": 0, "images": 1}
"""How many events of a tag are kept: 0 means all of them, 1 the latest."""


@dataclass(frozen=True)
class Curve:
    """What was written under one tag: `values` [N] at `steps` [N], in ascending order."""

    steps: Floats
    values: Floats

    @property
    def last(self) -> float:
        """The latest value."""
        return float(self.values[-1])


@dataclass(frozen=True)
class Histogram:
    """The distribution at one step: `counts` [K] of the values between `left` [K] and `right` [K]."""

    step: float
    left: Floats
    right: Floats
    counts: Floats


@dataclass(frozen=True)
class Picture:
    """An encoded image, its width in pixels, and when it was written."""

    step: int
    width: int
    encoded: bytes


@dataclass
class Stage:
    """One run in TensorBoard's sense: tag -> what was written."""

    scalars: dict[str, Curve] = field(default_factory=dict)
    histograms: dict[str, list[Histogram]] = field(default_factory=dict)
    pictures: dict[str, Picture] = field(default_factory=dict)


def read_stage(folder: Path) -> Stage:
    """Read all event files of `folder`, without its sub-folders; what a resumed run has replaced is left out."""
    events = EventAccumulator(str(folder), size_guidance=KEPT)
    events.Reload()
    tags = events.Tags()
    stage = Stage()
    for tag in tags["scalars"]:
        stage.scalars[tag] = _curve([(event.step, event.value) for event in events.Scalars(tag)])
    for tag in tags["histograms"]:
        stage.histograms[tag] = [_histogram(event.step, event.histogram_value) for event in events.Histograms(tag)]
    for tag in tags["images"]:
        newest = events.Images(tag)[-1]
        stage.pictures[tag] = Picture(newest.step, newest.width, newest.encoded_image_string)
    for tag in tags["tensors"]:
        plugin = events.SummaryMetadata(tag).plugin_data.plugin_name
        if plugin in ("scalars", "histograms", "images"):  # others, such as text, are not for a report
            _add_tensors(stage, plugin, tag, [(e.step, make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)])
    return stage


def _add_tensors(stage: Stage, plugin: str, tag: str, events: list[tuple[int, Any]]) -> None:
    """Sort in what was written in TensorBoard's second format."""
    if plugin == "scalars":
        stage.scalars[tag] = _curve([(step, float(value)) for step, value in events])
    elif plugin == "histograms":
        stage.histograms[tag] = [Histogram(step, *np.asarray(bins, np.float64).T) for step, bins in events if bins.size]
    else:
        step, (width, _, encoded, *_) = events[-1]
        stage.pictures[tag] = Picture(step, int(width), encoded)


def _curve(points: list[tuple[int, float]]) -> Curve:
    steps, values = np.asarray(points, np.float64).T
    order = np.argsort(steps, kind="stable")
    return Curve(steps[order], values[order])


def _histogram(step: int, value: Any) -> Histogram:
    """Return a histogram of TensorBoard's first format, whose outermost limits may be infinite."""
    limits = np.clip(np.asarray(value.bucket_limit, np.float64), value.min, value.max)
    return Histogram(step, np.concatenate([[value.min], limits[:-1]]), limits, np.asarray(value.bucket, np.float64))
