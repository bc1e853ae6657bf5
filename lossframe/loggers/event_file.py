"""Writes TensorBoard events, and keeps in memory those that a full disk refuses."""

import io
import itertools
import os
import socket
import time
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.io.gfile import GFile
from tensorboard.summary.writer.record_writer import RecordWriter

from lossframe.loggers.files import join
from lossframe.loggers.tolerance import Tolerance

_CAPACITY = 1 << 28
"""Bytes of events that wait for room on the disk, at most; the oldest are dropped."""
_numbers = itertools.count()


class EventFile:
    """Writes events into a file whenever they are flushed. After an error it keeps them, and tries again at the next.

    Stands for tensorboard's `EventFileWriter`, whose thread ends at an error, and whose file is not read beyond an
    event of which only a part was written.
    """

    def __init__(self, folder: str, suffix: str, tolerance: Tolerance) -> None:
        self.folder = folder
        self.suffix = suffix
        self.tolerance = tolerance
        self._waiting: list[bytes] = []
        self._file: Any = None
        self._path = ""
        self._size = 0

    def get_logdir(self) -> str:
        """Return the folder of the file."""
        return self.folder

    def add_event(self, event: Event) -> None:
        """Keep an event until `flush`."""
        self._waiting.append(event.SerializeToString())

    def flush(self) -> None:
        """Write all events that wait; an error of the file system is left to the `tolerance`."""
        if not self._waiting:
            return
        is_new = self._file is None
        content = _records(self._waiting)
        try:
            if is_new:
                self._open()
            self._file.write(content)
            self._file.flush()
        except OSError as error:
            self._undo(is_new)
            self.tolerance.fails(error)
            return
        self._size += len(content)
        self._waiting.clear()
        self.tolerance.works()

    def close(self) -> None:
        """Write what waits, or say how much is lost."""
        self.flush()
        if self._waiting:
            self.tolerance.loses(len(self._waiting), "events")
            self._waiting.clear()
        self._file = None

    def _open(self) -> None:
        """Name a new file behind the earlier ones, and begin it with the version."""
        system, folder = fsspec.core.url_to_fs(self.folder)
        system.makedirs(folder, exist_ok=True)
        place = f"{time.time():010.0f}.{socket.gethostname()}.{os.getpid()}.{next(_numbers):06d}"
        self._path = join(self.folder, f"events.out.tfevents.{place}{self.suffix}")
        self._file = GFile(self._path, "wb")
        version = _records([Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString()])
        self._file.write(version)
        self._size = len(version)

    def _undo(self, is_new: bool) -> None:
        """Remove what an error has left of events, or else the next ones go into a new file; limit those that wait."""
        system, path = fsspec.core.url_to_fs(self._path)
        try:
            if is_new or not isinstance(system, LocalFileSystem):
                self._file = None
            if is_new:
                system.rm_file(path)
            elif self._file is not None:
                os.truncate(path, self._size)
        except OSError:  # the folder has gone
            self._file = None
        while sum(map(len, self._waiting)) > _CAPACITY:
            del self._waiting[0]


def _records(contents: list[bytes]) -> bytes:
    """Return events in TensorBoard's format of records."""
    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    for content in contents:
        writer.write(content)
    return buffer.getvalue()
