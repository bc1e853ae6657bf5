"""Continues a run from a checkpoint: adds the overrides that its directory records to the command line."""

from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig

from lossframe import configs
from lossframe.errors import InputError

OVERRIDES = "overrides.yaml"
"""The file in a run's directory that records the command line arguments which chose its configuration."""

_CONFIG_FLAGS = {"--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"}


def expand(arguments: list[str]) -> list[str]:
    """Insert the recorded overrides of the run that `ckpt=RUN/checkpoints/FILE` names into command line arguments.

    An argument replaces the recorded override of the same key. Arguments without `ckpt=`, or with a flag that chooses a
    configuration, as `--config-path`, are returned unchanged.
    Raises an `InputError` if the checkpoint is missing or the record is damaged.
    """
    present = {key_of(each): each for each in arguments if _is_override(each)}
    checkpoint = present.get("ckpt", "").partition("=")[2].strip("'\"")
    if checkpoint in ("", "null"):
        return arguments
    if not Path(checkpoint).is_file():
        raise InputError(f"ckpt={checkpoint}: there is no such file; wanted a run's checkpoints/last.ckpt")
    if chooses_configuration(arguments):
        return arguments
    run_dir = run_dir_of(checkpoint)
    flags, overrides = recorded(run_dir)
    if flags:  # another configuration does not place a resumed run into its directory, as conf/train.yaml does
        quoted = str(run_dir).replace("'", r"\'")
        overrides.append(f"hydra.run.dir='{quoted}'")
    added = [each for each in overrides if key_of(each) not in present]
    place = arguments.index(present["ckpt"])  # Hydra's parser accepts overrides only in one piece
    return [*flags, *arguments[:place], *added, *arguments[place:]]


def run_dir_of(checkpoint: str) -> Path:
    """Return the directory of the run that wrote a checkpoint, RUN of `RUN/checkpoints/FILE`."""
    return Path(checkpoint).absolute().parent.parent


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
    return flags + [override for override in hydra_config.overrides.hydra if "hydra.searchpath=" in override]


def recorded(run_dir: Path) -> tuple[list[str], list[str]]:
    """Return the flags that chose a run's configuration, and its overrides; none if it has no record of them."""
    found = _read(run_dir / OVERRIDES)
    flags = [each for each in found if each.startswith("-")]
    return flags, [each for each in found if each not in flags]


def chooses_configuration(arguments: list[str]) -> bool:
    """Return whether a flag among command line arguments chooses a configuration, as `--config-path` does."""
    return bool(_CONFIG_FLAGS & {each.partition("=")[0] for each in arguments})


def key_of(override: str) -> str:
    """Return the key or group of an override, as `data.seed` of `+data.seed=1`."""
    return override.lstrip("+~").partition("=")[0]


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


def _is_override(argument: str) -> bool:
    return argument.startswith("~") or ("=" in argument and not argument.startswith("-"))
