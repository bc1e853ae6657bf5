"""Finds the checkpoint from which a run goes on, and checks what a file holds before it is loaded."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile, is_zipfile

from omegaconf import DictConfig, OmegaConf

from lossframe import saved
from lossframe.errors import InputError, names
from lossframe.training import launch, notes
from lossframe.training.run_folder import run_dir

if TYPE_CHECKING:
    from torch import nn

_ENTRIES = ("state_dict", "loops", "pytorch-lightning_version")
"""Entries that every checkpoint of a training has."""
_FORM = {
    "pytorch-lightning_version": str,
    "epoch": int,
    "global_step": int,
    "loops": {
        "fit_loop": {
            "epoch_progress": {"current": {"started": int}},
            "epoch_loop.batch_progress": {"is_last_batch": int},
        }
    },
}
"""The form of the entries by which a run says where it goes on."""
_SHOWN = 3
"""Number of weights that a message names."""


def chosen(config: DictConfig, folder: Path) -> str | None:
    """Return the checkpoint from which the run of a folder goes on; None if it begins anew, for it has none.

    `config.ckpt` is a file, or the folder, which stands for the newest whole checkpoint: `last.ckpt`, those before it,
    and then any other. Says which one it is, and which damaged ones are passed over.
    """
    if not run_dir.holds_run(Path(config.ckpt)):
        contents(Path(config.ckpt))
        return str(config.ckpt)
    files = list(_files(folder, config))
    for file in files:
        try:
            found = contents(file)
        except InputError as error:
            notes.add("passed over", str(error).partition(";")[0])
            continue
        _say_where(file, found, config)
        return str(file)
    if files:
        raise InputError(f"{folder}: wanted a whole checkpoint, found damaged ones; delete them to train anew")
    notes.add("trains anew", f"{run_dir.as_typed(folder)}, which was stopped before its first checkpoint")
    if launch.is_first():
        run_dir.clear(folder)
    return None


def contents(file: Path) -> dict[str, Any]:
    """Return the contents of a checkpoint, whose checksums must hold; only tensors and plain values.

    Raises an `InputError` that names another checkpoint if the file is truncated, foreign, or holds other objects.
    """
    check_form(file)
    import torch

    if file.is_dir():  # sharded over the ranks
        file = file / "meta.pt"
    _check_sums(file)
    try:
        found: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # of the zip, the pickle or a class that it names
        other = re.search(r"GLOBAL (\S+)", str(error))
        said = f"an object of {other[1]}, which is not loaded" if other else str(error).partition("\n")[0]
        wanted = "wanted a checkpoint of tensors and plain values"
        raise InputError(f"{file}: {wanted}, found {said}; {_remedy(file)}") from error
    missing = [name for name in _ENTRIES if not isinstance(found, dict) or name not in found]
    if missing and file.name != "meta.pt":
        raise InputError(f"{file}: wanted a run's checkpoint, found a file without {names(missing)}; {_remedy(file)}")
    if not isinstance(found, dict) or not isinstance(found.get("state_dict", {}), dict):
        raise InputError(f"{file}: wanted a run's checkpoint, found none with weights; {_remedy(file)}")
    if file.name != "meta.pt":
        with naming(file):
            saved.check(found, _FORM, "the checkpoint")
            if not re.match(r"\d+\.\d+", version := found["pytorch-lightning_version"]):
                raise saved.StateError(f"pytorch-lightning_version: wanted a version as 2.6.0, found {version!r}")
    return found


@contextmanager
def naming(file: Path | None) -> Iterator[None]:
    """Name the file, and others of its folder, in the message about a part of a checkpoint that cannot be loaded."""
    try:
        yield
    except saved.StateError as error:
        if file is None:
            raise
        raise InputError(f"{file}: {error}; {_remedy(file)}") from error


def check_form(file: Path) -> None:
    """Raise an `InputError` if a file is no whole checkpoint by its form, which needs no torch."""
    if file.is_file() and not _is_zip(file):
        raise InputError(f"{file}: wanted a whole checkpoint, found a truncated or foreign file; {_remedy(file)}")


def _is_zip(file: Path) -> bool:
    """Return whether a file is an archive by its form; Python's own function raises an error of some that are none."""
    try:
        return is_zipfile(file)
    except BadZipFile:
        return False


def _check_sums(file: Path) -> None:
    """Raise an `InputError` if a part of a file is not what was written: torch maps tensors without a look."""
    try:
        with ZipFile(file) as archive:
            part = archive.testzip()
    except Exception as error:  # of the zip, of its compression, or of a place beyond the file
        part = str(error) or type(error).__name__
    if part is not None:
        raise InputError(f"{file}: wanted a whole checkpoint, found {part} damaged; {_remedy(file)}")


def check_weights(found: Mapping[str, Any], module: "nn.Module") -> None:
    """Raise an `InputError` that names the first weights in which a checkpoint and a module differ.

    Names below `objective.`, those of the terms, are not compared.
    """
    wanted = module.state_dict()
    own, theirs = ([key for key in state if not key.startswith("objective.")] for state in (wanted, found))
    lines = [f"no tensor {key}" for key in own if _size(wanted[key]) is not None and _size(found.get(key)) is None]
    lines += [f"{key}, which the model lacks" for key in theirs if key not in wanted]
    for key in wanted.keys() & found.keys():
        sizes = _size(found[key]), _size(wanted[key])
        if None not in sizes and sizes[0] != sizes[1]:
            lines.append(f"{key} of {sizes[0]} for {sizes[1]}")
    if lines:
        more = f", and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        raise InputError(
            f"the checkpoint is another model's: wanted the same weights, found {', '.join(lines[:_SHOWN])}{more}; "
            "choose the model and the data of the checkpoint's run, or train anew without ckpt"
        )


def trained_epochs(checkpoint: Mapping[str, Any]) -> int:
    """Return how many epochs a checkpoint has trained to their last batch, after which a scheduler is stepped."""
    loop = checkpoint["loops"]["fit_loop"]
    started: int = loop["epoch_progress"]["current"]["started"]
    return started if loop["epoch_loop.batch_progress"]["is_last_batch"] else max(0, started - 1)


def _size(entry: Any) -> list[int] | None:
    """Return the shape of a tensor; None of another thing, or of a parameter that has none yet."""
    from torch import Tensor
    from torch.nn.parameter import is_lazy

    return list(entry.shape) if isinstance(entry, Tensor) and not is_lazy(entry) else None


def _files(folder: Path, config: DictConfig) -> Iterator[Path]:
    """Yield the checkpoints in a run's folder in the order in which they are tried."""
    last = Path(OmegaConf.select(config, "callbacks.last.path") or folder / "checkpoints" / "last.ckpt")
    files = {*folder.rglob("*.ckpt"), *last.parent.glob("*.ckpt")}
    found = {path: re.fullmatch(rf"{re.escape(last.stem)}(?:-(\d+))?", path.stem) for path in files}
    series = {path: int(match[1] or 0) for path, match in found.items() if match and path.parent == last.parent}
    yield from sorted(series, key=series.__getitem__)
    yield from _latest_first(found.keys() - series.keys())


def _latest_first(files: Iterable[Path]) -> list[Path]:
    """Return files from the latest to the earliest, and those of the same time by name."""
    return sorted(files, key=lambda path: (-path.stat().st_mtime_ns, path.name))


def _remedy(file: Path) -> str:
    """Say which other checkpoints of a folder there are, the latest first."""
    others = _latest_first(file.parent.glob("*.ckpt"))
    chosen = [str(other.name) for other in others if other != file and (other.is_dir() or _is_zip(other))]
    return f"take another one of its folder, {names(chosen[:_SHOWN])}" if chosen else "there is no other in its folder"


def _say_where(file: Path, found: Mapping[str, Any], config: DictConfig) -> None:
    """Say from where a run goes on, or that it is at its end."""
    epochs, steps = trained_epochs(found), found["global_step"]
    done = {"trainer.max_epochs": (epochs, 10), "trainer.max_steps": (steps, steps)}
    place = f"{run_dir.as_typed(file)}, after {epochs} whole epochs, {steps} steps"
    limits = {key: OmegaConf.select(config, key) for key in done}
    ended = [key for key, limit in limits.items() if limit is not None and 0 <= limit <= done[key][0]]
    if ended:
        more = " ".join(f"{key}={sum(done[key])}" for key in ended)
        notes.add("finished", f"{place}; tests again. For more: {more}")
    else:
        notes.add("goes on", place)
