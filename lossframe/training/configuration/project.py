"""Finds the user's own project, whose conf/train.yaml is the primary configuration and whose modules are importable."""

import os
import sys
from collections.abc import Iterable
from importlib.resources import as_file, files
from pathlib import Path
from shlex import quote
from shutil import copytree, ignore_patterns

from lossframe.errors import InputError, names
from lossframe.training import notes
from lossframe.training.configuration.arguments import chosen_configuration, key_of

_PRIMARY = Path("conf", "train.yaml")


def primary(arguments: list[str]) -> list[str]:
    """Return command line arguments that choose the primary configuration of the project in the current folder, if any.

    A flag that chooses a configuration holds, and so does the configuration of a run that `ckpt=` continues. In either
    case the modules of the project are importable, in this process and in those that it starts.
    """
    here = _project(Path.cwd())
    home = here or folder_of(arguments)
    if home is not None:
        make_importable(home)
    continues = any(key_of(each) == "ckpt" for each in arguments)
    if here is None or continues or chosen_configuration(arguments):
        return arguments
    notes.add("configuration", f"{_PRIMARY}, with the modules of this folder")
    return [f"--config-path={here / _PRIMARY.parent}", *arguments]


def enter() -> None:
    """Make the modules of the current folder importable, if it is a project."""
    if here := _project(Path.cwd()):
        make_importable(here)


def folder_of(flags: Iterable[str]) -> Path | None:
    """Return the project whose conf/ `--config-path=FOLDER` chooses among flags; None if it is no project."""
    chosen = [Path(each.partition("=")[2]) for each in flags if each.startswith("--config-path=")]
    return _project(chosen[0].parent) if chosen and chosen[0].name == _PRIMARY.parent.name else None


def around(folder: Path) -> Path | None:
    """Return the project in which a run's folder lies; None if there is none."""
    return next((parent for parent in folder.absolute().parents if _project(parent)), None)


def make_importable(folder: Path) -> None:
    """Put a folder on the path of modules of this process, and of those that it starts."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if str(folder) not in inherited:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *filter(None, inherited)])


def _project(folder: Path) -> Path | None:
    """Return a folder that holds a project, apart from a checkout of lossframe itself."""
    is_checkout = (folder / "lossframe" / "__init__.py").is_file()
    return folder.absolute() if (folder / _PRIMARY).is_file() and not is_checkout else None


def make(folder: Path) -> str:
    """Copy the template of a project into a new folder, and return the lines that say what to type next."""
    _check_new(folder)
    with as_file(files("lossframe") / "template") as template:
        copytree(template, folder, dirs_exist_ok=True, ignore=ignore_patterns("__pycache__"))
    return f"made             {folder}\nnext             cd {quote(str(folder))} && lossframe train"


def _check_new(folder: Path) -> None:
    """Raise an `InputError` unless a folder of this name can be made, or is there and empty."""
    wanted = f"init {folder}: wanted the name of a new folder, as lossframe init demo"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = sorted(each.name for each in folder.iterdir())
    except (OSError, ValueError) as error:
        raise InputError(f"{wanted}; {getattr(error, 'strerror', None) or error}") from error
    if found:
        raise InputError(f"{wanted}; {folder} is not empty, it holds {names(found[:5])}")
