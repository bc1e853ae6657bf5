"""Reads TensorBoard's event files into plain data, up to the first damaged record."""

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
"""Number of events kept per tag: 0 for all, 1 for the latest."""


@dataclass(frozen=True)
class Curve:
    """Points of one tag: `values` [N] at `steps` [N], in ascending order."""

    steps: Floats
    values: Floats

    @property
    def last(self) -> float:
        """Latest value."""
        return float(self.values[-1])


@dataclass(frozen=True)
class Histogram:
    """Distribution at one step: `counts` [K] of the values between `left` [K] and `right` [K]."""

    step: float
    left: Floats
    right: Floats
    counts: Floats


@dataclass(frozen=True)
class Picture:
    """Encoded image with its step and its width in pixels."""

    step: int
    width: int
    encoded: bytes


@dataclass(frozen=True)
class Note:
    """Remark on a file that was read in part; `usual` if a run that is still writing leaves such files."""

    file: Path
    text: str
    usual: bool = False


@dataclass
class Stage:
    """Contents of one TensorBoard run by tag, with notes on unreadable files."""

    scalars: dict[str, Curve] = field(default_factory=dict)
    histograms: dict[str, list[Histogram]] = field(default_factory=dict)
    pictures: dict[str, Picture] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)


def read_stage(folder: Path) -> Stage:
    """Read all event files of `folder`, without sub-folders, and leave out points that a resumed run has replaced.

    Like TensorBoard, the function reads a damaged file up to the damage, and notes this.
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
    """Add the events of a file to `events`, and return a note if the file could not be read to its end."""
    good, reached = 0, None
    try:
        with file.open("rb") as stream:
            for record in _records(stream):
                event = Event.FromString(record)
                events._ProcessEvent(event)  # Reload() would not report damage
                good = stream.tell()
                if event.HasField("summary"):
                    reached = max(event.step, reached or 0)
    except (EOFError, ValueError, OSError, DecodeError) as error:
        return [_note(file, error, good, reached)]
    return [] if good else [Note(file, "is empty: if anything was logged there, it is lost.")]


def _note(file: Path, error: Exception, good: int, reached: int | None) -> Note:
    """Return a note on a file that was read for `good` bytes, with points up to step `reached`."""
    if not good:
        return Note(file, f"could not be read at all: {error}.")
    until = "before its first point" if reached is None else f"after points up to step {reached:,}"
    if isinstance(error, EOFError):
        usual = "That is usual while a run is writing, or where it was killed; else the end of the file is lost."
        return Note(file, f"{error}, {until}. {usual}", usual=True)
    place = f"at byte {good:,} of {file.stat().st_size:,}, {until}"
    return Note(file, f"is damaged {place}: {error}. What follows is not shown: curves may end early.")


def _records(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the records of an event file; raise an EOFError inside a record, a ValueError at a wrong checksum."""
    while head := stream.read(8):
        length = int.from_bytes(_checked(head, 8, stream), "little")
        yield _checked(stream.read(length), length, stream)


def _checked(data: bytes, length: int, stream: BinaryIO) -> bytes:
    """Return `data` if its length is `length` and its checksum follows in the stream."""
    checksum = stream.read(4)
    if len(data) < length or len(checksum) < 4:
        raise EOFError("ends inside a record")
    if masked_crc32c(data) != int.from_bytes(checksum, "little"):
        raise ValueError("a wrong checksum")
    return data


def _add_tensors(stage: Stage, plugin: str, tag: str, events: list[tuple[int, Any]]) -> None:
    """Add the events of a tag in TensorBoard's newer format to a stage."""
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
    """Convert a histogram of TensorBoard's older format, whose outermost limits may be infinite."""
    limits = np.clip(np.asarray(value.bucket_limit, np.float64), value.min, value.max)
    return Histogram(step, np.concatenate([[value.min], limits[:-1]]), limits, np.asarray(value.bucket, np.float64))
