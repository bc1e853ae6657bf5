"""Continues a run: adds the flags and overrides that its directory records to the command line."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig

from lossframe import configs
from lossframe.errors import InputError
from lossframe.training import notes
from lossframe.training.configuration import project
from lossframe.training.configuration.arguments import chosen_configuration, key_of, overrides_by_key, quoted, value_of
from lossframe.training.run_folder import run_dir

OVERRIDES = "overrides.yaml"
"""The file in a run's directory that records the command line arguments which chose its configuration."""
PATHS = ("data.root", "data.path")
"""Keys whose values are paths from where the command was started."""

_OWN_OPTIONS = ("data", "optimizer", "scheduler")
"""Groups of which another choice has other options, so that the recorded ones mean nothing to it."""
_PLACES = tuple(f"trainer.{key}" for key in ("accelerator", "devices", "num_nodes", "strategy"))
"""What another choice of `trainer` chooses; the length of the training stays."""


def entered(arguments: list[str]) -> list[str]:
    """Go to the folder where the run that `ckpt=` continues was started, on which its relative paths depend.

    Returns the arguments, `ckpt=last` with the folder of the run, and paths as they were typed here.
    """
    typed = overrides_by_key(arguments)
    checkpoint = value_of(typed.get("ckpt", ""))
    if not checkpoint:
        return arguments
    if checkpoint == "last" and not Path(checkpoint).exists():
        checkpoint = value_of(typed.get("run_dir", "")) or str(Path.cwd())
    home = started_in(_folder(checkpoint))
    paths = {"ckpt": checkpoint}
    if home is not None and home != Path.cwd():
        paths |= {key: value_of(typed[key]) for key in ("run_dir", *PATHS) if key in typed}
        paths = {key: str(Path(path).absolute()) for key, path in paths.items() if path and "${" not in path}
        os.chdir(home)
        notes.add("started in", f"{home}, from where relative paths are read")
    placed = {typed[key]: f"{key}={quoted(path)}" for key, path in paths.items()}
    return [placed.get(each, each) for each in arguments]


def expand(arguments: list[str]) -> list[str]:
    """Insert the recorded flags and overrides of the run that `ckpt=` names, a run's folder or its checkpoint.

    An argument replaces the recorded flag, or the recorded override of the same key. Arguments without `ckpt=`, or with
    a flag that chooses another primary configuration than the run's, are returned unchanged.
    Raises an `InputError` if there is no such run, or its record is damaged.
    """
    typed = overrides_by_key(arguments)
    checkpoint = value_of(typed.get("ckpt", ""))
    if not checkpoint:
        return arguments
    folder = _folder(checkpoint)
    if {"-m", "--multirun"}.intersection(arguments):
        raise InputError(f"ckpt={checkpoint}: wanted one run to go on with, found -m, a sweep of several; leave it out")
    flags, overrides = recorded(folder)
    chosen, before = chosen_configuration(arguments), chosen_configuration(flags)
    if any(chosen.get(flag, before.get(flag)) != before.get(flag) for flag in ("--config-path", "--config-name")):
        return arguments
    if before:  # another configuration may place a run elsewhere
        overrides.append(f"hydra.run.dir={quoted(folder)}")
    if overrides:
        overrides.append("hydra.mode=RUN")  # an experiment may start a sweep, of which this run is one job
    added = [each for each in overrides if not _is_replaced(each, typed, overrides)]
    place = arguments.index(typed["ckpt"])  # Hydra's parser accepts overrides only in one piece
    kept = [f"{flag}={value}" for flag, value in before.items() if flag not in chosen]
    return [*kept, *arguments[:place], *added, *arguments[place:]]


def config_flags() -> list[str]:
    """Return the command line arguments that chose another configuration than conf/train.yaml; none for this one."""
    hydra_config = HydraConfig.get()
    sources = {source.provider: source.path for source in hydra_config.runtime.config_sources}
    flags = []
    if Path(sources["main"]) != Path(str(configs.root())):
        flags.append(f"--config-path={sources['main']}")
    if hydra_config.job.config_name != "train":
        flags.append(f"--config-name={hydra_config.job.config_name}")
    if "command-line" in sources:
        flags.append(f"--config-dir={sources['command-line']}")
    return flags + [each for each in hydra_config.overrides.hydra if "hydra.searchpath=" in each]


def recorded(folder: Path) -> tuple[list[str], list[str]]:
    """Return the flags that chose a run's configuration, and its overrides; none if it has no record of them.

    A run without `overrides.yaml` has Hydra's record of the overrides alone.
    If the run's project was moved, its configuration is that of the project around the run.
    """
    found = _read(folder / OVERRIDES) or _read(folder / ".hydra" / "overrides.yaml")
    flags = [each for each in found if each.startswith("-")]
    overrides = [each for each in found if each not in flags]
    here = project.around(folder)
    if here is not None and "--config-path" in chosen_configuration(flags) and not project.folder_of(flags):
        flags = [f"--config-path={here / 'conf'}" if each.startswith("--config-path=") else each for each in flags]
    return flags, overrides


def _folder(checkpoint: str) -> Path:
    """Return the folder of the run that a checkpoint or a run's folder belongs to."""
    path = Path(checkpoint)
    if not path.exists():
        raise InputError(f"ckpt={checkpoint}: there is no such file; wanted a run's folder or checkpoints/last.ckpt")
    if path.is_dir() and not (path / "meta.pt").is_file():  # of a checkpoint that is sharded over the ranks
        run_dir.check(path.absolute())
    return run_dir.of_checkpoint(path)


def started_in(folder: Path) -> Path | None:
    """Return the folder where a run was started; None if there is no record of it, or no such folder here."""
    record = folder / ".hydra" / "hydra.yaml"
    text = record.read_text(encoding="utf-8") if record.is_file() else ""
    found = re.search("^    cwd: (.+)$", text, re.MULTILINE)
    home = Path(yaml.safe_load(found[1])) if found else None
    return home if home is not None and home.is_dir() else None


def _is_replaced(override: str, typed: Mapping[str, str], overrides: list[str]) -> bool:
    """Return whether typed overrides replace a recorded one: that of its key, or another choice of its group."""
    key = key_of(override)
    if key in typed:
        return True
    if "trainer" in typed and key in _PLACES:
        return True
    group = re.split(r"[./]", key)[0]
    return group in _OWN_OPTIONS and group != key and group in typed and typed[group] not in overrides


def _read(path: Path) -> list[str]:
    if not path.exists():
        return []
    found: Any
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        found = error
    if isinstance(found, list) and all(isinstance(each, str) for each in found):
        return found
    raise InputError(
        f"{path} is damaged: wanted the run's overrides, as `- KEY=VALUE` each, found {found!r}; mend it, or delete it "
        "and give them again"
    )
