"""Locks the directory of a run for one process, and records there the configuration that the run trains."""

import fcntl
import os
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lossframe.errors import InputError, names
from lossframe.training import launch

RESOLVED = "resolved.yaml"
"""The file in a run's directory that records its whole configuration, with every interpolation resolved."""

_CHECKPOINTS = "checkpoints"
"""The folder in a run's directory that holds its checkpoints."""
_LOG = "train.log"
_STARTED_IN = Path.cwd()  # before Hydra changes the working directory, if hydra.job.chdir=true


def chosen(checkpoint: str | None, given: str | None, new: str) -> str:
    """Return the directory of a run: the checkpoint's, if it goes on from one, or else the given one, or a new one."""
    return str(of_checkpoint(checkpoint)) if checkpoint else given or new


def of_checkpoint(checkpoint: str | Path) -> Path:
    """Return the directory of a run, RUN of `RUN/checkpoints/FILE`, of a file elsewhere in RUN, or of `RUN`.

    Raises an `InputError` for a file that lies in no run's directory.
    """
    path = Path(checkpoint).absolute()
    for folder in (path, *path.parents):
        if holds_run(folder):
            return folder
    if path.parent.name != _CHECKPOINTS:
        raise InputError(
            f"{checkpoint}: wanted a run's folder, or RUN/{_CHECKPOINTS}/FILE, found a file in no run's folder; move "
            f"it to RUN/{_CHECKPOINTS}/ of its run, or use --resume RUN"
        )
    return path.parent.parent


def holds_run(folder: Path) -> bool:
    """Return whether a directory holds the records of a run that has begun to train."""
    return (folder / RESOLVED).is_file()


def check(folder: Path) -> None:
    """Raise an `InputError` that says what a folder is that holds no run."""
    if holds_run(folder):
        return
    runs = [path.parent for path in [*folder.glob(f"*/{RESOLVED}"), *folder.glob(f"runs/*/{RESOLVED}")]]
    newest = sorted(runs, key=lambda run: (run / RESOLVED).stat().st_mtime)[-4:]
    if not folder.is_dir():
        found = "a file" if folder.exists() else "none"
    elif runs:
        found = f"a folder of runs; choose one, as {names(str(run.relative_to(folder)) for run in reversed(newest))}"
    elif (folder / _LOG).is_file():
        found = "none that has begun to train; start it again by its command"
    else:
        found = "another folder"
    raise InputError(f"{folder}: wanted a run's folder, with {RESOLVED}, found {found}")


def clear(folder: Path) -> None:
    """Remove the curves of a run that is trained from its beginning again."""
    for pattern in ("*/events.out.tfevents.*", "csv/metrics*.csv"):
        for path in folder.glob(pattern):
            path.unlink()


def is_fresh(folder: Path) -> bool:
    """Return whether a run's directory holds nothing but the log that Hydra has opened there."""
    return {path.name for path in folder.iterdir()} <= {_LOG}


def discard(folder: Path, started_in: Path) -> None:
    """Remove the directory of a run that was refused before it began to train, and parents that are now empty.

    A directory with the records of a run stays, and so does where the command was started.
    """
    if (folder / RESOLVED).exists() or folder == started_in or folder in started_in.parents:
        return
    shutil.rmtree(folder, ignore_errors=True)
    for parent in folder.parents:
        if started_in not in parent.parents or any(parent.iterdir()):
            return
        parent.rmdir()


def as_typed(path: str | Path) -> str:
    """Return a path as it is typed where the command was started: relative if it lies below, quoted if need be."""
    absolute = Path(path).absolute()
    return shlex.quote(str(absolute.relative_to(_STARTED_IN) if absolute.is_relative_to(_STARTED_IN) else absolute))


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
        if not resume and holds_run(run_dir):
            raise InputError(
                f"{run_dir} holds a run already; choose another run_dir, or go on by --resume {as_typed(run_dir)}"
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
