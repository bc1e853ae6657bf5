"""Event files of TensorBoard as plain data."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.io_wrapper import IsSummaryEventsFile
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
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


@dataclass(frozen=True)
class Note:
    """What is to be said about a file that not all could be read of; `usual` if a run that goes on has such files."""

    file: Path
    text: str
    usual: bool = False


@dataclass
class Stage:
    """One run in TensorBoard's sense: tag -> what was written; and what could not be read."""

    scalars: dict[str, Curve] = field(default_factory=dict)
    histograms: dict[str, list[Histogram]] = field(default_factory=dict)
    pictures: dict[str, Picture] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)


def read_stage(folder: Path) -> Stage:
    """Read all event files of `folder`, without its sub-folders; what a resumed run has replaced is left out.

    As by TensorBoard, a damaged file is read up to the damage. That is noted.
    """
    events = EventAccumulator(str(folder), size_guidance=KEPT)
    files = sorted(file for file in folder.iterdir() if IsSummaryEventsFile(str(file)))
    stage = Stage(notes=[note for file in files for note in _feed(events, file)])
    tags = events.Tags()
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


def _feed(events: EventAccumulator, file: Path) -> list[Note]:
    """Give the events of a file to `events`; return what is to be said if these are not all of them."""
    good, reached = 0, None
    try:
        with file.open("rb") as stream:
            for record in _records(stream):
                event = Event.FromString(record)
                events._ProcessEvent(event)  # its Reload() says nothing about damage
                good = stream.tell()
                if event.HasField("summary"):
                    reached = max(event.step, reached or 0)
    except (EOFError, ValueError, OSError, DecodeError) as error:
        return [_note(file, error, good, reached)]
    return [] if good else [Note(file, "is empty: if anything was logged there, it is lost.")]


def _note(file: Path, error: Exception, good: int, reached: int | None) -> Note:
    """Return what is to be said about a file that could be read for `good` bytes, with points up to step `reached`."""
    if not good:
        return Note(file, f"could not be read at all: {error}.")
    until = "before its first point" if reached is None else f"after points up to step {reached:,}"
    if isinstance(error, EOFError):
        usual = "That is usual while a run is writing, or where it was killed; else the end of the file is lost."
        return Note(file, f"{error}, {until}. {usual}", usual=True)
    place = f"at byte {good:,} of {file.stat().st_size:,}, {until}"
    return Note(file, f"is damaged {place}: {error}. What follows is not shown: curves may end early.")


def _records(stream: BinaryIO) -> Iterator[bytes]:
    """Give the records of an event file: an EOFError if it ends inside one, a ValueError at a wrong checksum."""
    while head := stream.read(8):
        length = int.from_bytes(_checked(head, 8, stream), "little")
        yield _checked(stream.read(length), length, stream)


def _checked(data: bytes, length: int, stream: BinaryIO) -> bytes:
    """Return `data` if there are `length` bytes of it, and their checksum follows."""
    checksum = stream.read(4)
    if len(data) < length or len(checksum) < 4:
        raise EOFError("ends inside a record")
    if masked_crc32c(data) != int.from_bytes(checksum, "little"):
        raise ValueError("a wrong checksum")
    return data


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
