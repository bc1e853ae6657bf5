"""Writes checkpoint files that are always whole, and keeps earlier ones."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning_fabric.utilities.types import _PATH

SUFFIX = ".new"
"""Ending of a file that is being written."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a local checkpoint into a file beside its place, and moves the file there when it is on the disk.

    A process that is killed meanwhile leaves the earlier checkpoint as it was. Lightning's own plugin writes into the
    system's folder of temporary files, and copies from there where that is another file system. Paths of other file
    systems, such as s3://, are left to Lightning's plugin.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any = None) -> None:
        """Write a checkpoint; a full disk is an `OSError`, and the earlier checkpoint stays."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_name(target.name + SUFFIX)
        try:
            with new.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            new.replace(target)
        except BaseException:
            new.unlink(missing_ok=True)
            raise


def earlier(path: Path, number: int) -> Path:
    """Return where the checkpoint is kept that was `path` so many saves ago.

    >>> earlier(Path("last.ckpt"), 2).name
    'last-2.ckpt'
    """
    return path.with_name(f"{path.stem}-{number}{path.suffix}") if number else path


def rotate(path: Path, keep: int) -> None:
    """Make room for a new checkpoint: keep the present file, and the `keep - 2` before it, as `earlier` ones.

    The present file stays where it is too, until another takes its place.
    """
    copy = earlier(path, 1)
    if path.exists() and copy.exists() and path.samefile(copy):
        return  # the save after the last rotation has failed
    for number in range(keep - 2, 0, -1):
        if earlier(path, number).exists():
            earlier(path, number).replace(earlier(path, number + 1))
    if keep < 2 or not path.exists():
        return
    new = copy.with_name(copy.name + SUFFIX)
    new.unlink(missing_ok=True)
    try:
        os.link(path, new)
    except OSError:  # a file system without links
        shutil.copyfile(path, new)
    new.replace(copy)
