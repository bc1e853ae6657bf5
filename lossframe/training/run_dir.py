"""Locks the directory of a run for one process, and records there the configuration that the run trains."""

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lossframe.errors import InputError
from lossframe.training import launch

RESOLVED = "resolved.yaml"
"""The file in a run's directory that records its whole configuration, with every interpolation resolved."""


@contextmanager
def locked(run_dir: Path, resume: bool, patience: float = 10.0) -> Iterator[None]:
    """Lock a run's directory for this process, on rank 0; the file system releases the lock when the process ends.

    Raises an `InputError` if another process holds the lock, or if the directory holds a run that is not resumed.
    `patience` is the number of seconds for which a resumed run waits, since workers of a killed process outlive it.
    """
    if not launch.is_first():
        yield
        return
    descriptor = os.open(run_dir, os.O_RDONLY)
    try:
        _wait_for_lock(descriptor, run_dir, patience if resume else 0.0)
        if not resume and (run_dir / RESOLVED).exists():
            raise InputError(
                f"{run_dir} holds a run already; choose another hydra.run.dir, or go on with ckpt=CHECKPOINT"
            )
        yield
    finally:
        os.close(descriptor)


def write(run_dir: Path, records: Mapping[str, str]) -> None:
    """Write records, a mapping from relative path to text, into a run's directory."""
    for name, text in records.items():
        path = run_dir / name
        path.parent.mkdir(exist_ok=True)
        new = path.with_name(f"{path.name}.new")
        new.write_text(text, encoding="utf-8")
        new.replace(path)  # a process that is killed meanwhile leaves no half of a record


def _wait_for_lock(descriptor: int, run_dir: Path, patience: float) -> None:
    deadline = time.monotonic() + patience
    while not _try_lock(descriptor):
        if time.monotonic() > deadline:
            raise InputError(f"{run_dir}: another process trains there; wait for its end, or choose another folder")
        time.sleep(0.2)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
