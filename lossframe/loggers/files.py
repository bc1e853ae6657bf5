"""Names and writes files in the directory of a logger, which may be on any file system that fsspec knows."""

import contextlib
import os
from pathlib import Path

import fsspec


def join(directory: str | Path, *names: str) -> str:
    """Return a path inside a directory or URL; `pathlib` would turn `s3://bucket` into the local folder `s3:`."""
    return os.path.join(str(directory), *names)


def run_name(directory: str) -> str:
    """Return the last two parts of a directory's absolute path or URL.

    >>> run_name("memory://sweeps/first/run/")
    'first/run'
    """
    path: str = fsspec.core.url_to_fs(directory)[1]
    return "/".join([part for part in path.split("/") if part][-2:])


def write_text(path: str, text: str) -> None:
    """Write a file and its directories, and replace an earlier file in one step."""
    system, target = fsspec.core.url_to_fs(path)
    system.makedirs(os.path.dirname(target), exist_ok=True)
    unfinished = f"{target}.tmp"
    try:
        with system.open(unfinished, "w", newline="") as file:
            file.write(text)
        system.mv(unfinished, target)
    except OSError:  # half a file takes room on a full disk
        with contextlib.suppress(OSError):
            system.rm_file(unfinished)
        raise
