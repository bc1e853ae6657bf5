"""Reads what a run has recorded: its configuration, its checkpoints, and how to compose the configuration again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

import lossframe.training.run_folder.hydra_defaults  # noqa: F401 - registers what conf/ reads
from lossframe import configs, saved
from lossframe.data import InMemoryData
from lossframe.errors import InputError, names
from lossframe.training.checks import composed, preflight, targets
from lossframe.training.checks.user_errors import explained
from lossframe.training.configuration import composition, project
from lossframe.training.configuration.arguments import key_of, normalised
from lossframe.training.run_folder import resume, run_dir

CHECKPOINTS = ("best", "last")
"""Checkpoints that a run writes, as `best` for checkpoints/best.ckpt."""

_UNUSED = ("data", "logger", "trainer")
"""Keys of a configuration whose objects a learner does not need."""
_PLACES_OF_DATA = ("_target_", "path", "root")
"""Keys of `data` that say which samples there are."""
_PLACES = ("trainer", "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy")
"""Keys that say where a run was trained, which is not where it is evaluated."""


def configuration(folder: Path) -> DictConfig:
    """Return the resolved configuration of a run; an `InputError` says what a folder is that holds no run."""
    run_dir.check(folder)
    file = folder / run_dir.RESOLVED
    try:
        config = OmegaConf.load(file)
    except (yaml.YAMLError, UnicodeDecodeError, OSError, OmegaConfBaseException) as error:
        found = " ".join(str(error).split())
        raise InputError(f"{file} is damaged: wanted the run's configuration as YAML, found {found}") from error
    absent = [key for key in (*_UNUSED, "model", "loss", "seed") if key not in config]
    if not isinstance(config, DictConfig) or absent:
        raise InputError(f"{file} is damaged: wanted the run's configuration, found none of {names(absent)} in it")
    config.run_dir, config.ckpt = str(folder.absolute()), None  # the folder may have been moved
    return config


def recomposed(folder: Path, given: Sequence[str], state: Mapping[str, Any]) -> tuple[DictConfig, Any]:
    """Compose a run's configuration again, with `given` overrides in place of the recorded ones, and make its data.

    It is evaluated on one CPU unless they say otherwise. Where they choose other data, the recorded options of data are
    left out. Data are prepared as those of the training, by the `state` of a checkpoint.
    """
    flags, recorded = resume.recorded(folder)
    replaced = {key_of(each) for each in given} | {"ckpt", *_PLACES}
    if any(key_of(each) == "data" and each not in recorded for each in given):
        replaced |= {key for each in recorded if (key := key_of(each)).startswith(("data.", "data/"))}
    kept = [each for each in recorded if key_of(each) not in replaced]
    place = [] if any(each.startswith("trainer=") for each in given) else ["trainer=cpu"]
    config = _composed(flags, [*kept, *place, *normalised(given)])
    composed.check(config)
    with open_dict(config):
        config.pop("hydra")
    config = composition.prepared(config)
    config.run_dir, config.ckpt = str(folder.absolute()), None
    make_importable(folder, config)
    with explained(config):
        data = preflight.data_of(config, lambda data: as_trained(data, state, config))
    _check_unchanged(config, configuration(folder))
    return config, data


def as_trained(data: Any, state: Mapping[str, Any], config: DictConfig) -> None:
    """Make data prepare their samples as a run's training did; all samples of other data are in each split.

    Other data have another class or another path.
    """
    if not isinstance(data, InMemoryData):
        return
    folder, name = Path(config.run_dir), type(data).__qualname__
    before = configuration(folder).data
    found = state.get(name, {"fitted": {}})
    saved.check(found, {"fitted": {...: object}}, name)
    is_whole = _is_other(config.data, before, resume.started_in(folder) or Path.cwd())
    data.adopt(found["fitted"], is_whole)


def of_another_kind(config: DictConfig) -> str | None:
    """Return a line that says so, if data have another class than those of the training, and learn from themselves."""
    now, before = (each.data._target_ for each in (config, configuration(Path(config.run_dir))))
    if now == before:
        return None
    now, before = (target.rpartition(".")[2] for target in (now, before))
    of_its_own = f"{now} is prepared by its own samples, not as the training's {before}"
    return f"{of_its_own}: scales and numbers of classes may differ"


def _is_other(now: DictConfig, before: DictConfig, started_in: Path) -> bool:
    """Return whether data have another class or path; a recorded path is relative to where the run was started."""
    texts = [[each.get(key) for key in _PLACES_OF_DATA] for each in (now, before)]
    return texts[0] != texts[1] and _place(now, Path.cwd()) != _place(before, started_in)


def _place(data: DictConfig, base: Path) -> dict[str, str]:
    """Return the class of data and where they are, with absolute paths."""
    given = {key: str(data[key]) for key in _PLACES_OF_DATA if data.get(key) is not None}
    return {key: each if key == "_target_" else str((base / each).resolve()) for key, each in given.items()}


def checkpoint_file(folder: Path, checkpoint: str | Path) -> Path:
    """Return the file of a checkpoint, "best", "last" or a path; an `InputError` names those that a run has."""
    file = folder / "checkpoints" / f"{checkpoint}.ckpt" if checkpoint in CHECKPOINTS else Path(checkpoint)
    if not file.is_file():
        others = [name for name in CHECKPOINTS if (folder / "checkpoints" / f"{name}.ckpt").is_file()]
        found = f"only {names(others)}; choose it by checkpoint" if others else "none yet: no epoch has ended"
        raise InputError(f"{file}: wanted a checkpoint, found {found}")
    return file


def make_importable(folder: Path, config: DictConfig) -> None:
    """Put the run's own project on the path of modules; an `InputError` names a class that cannot be imported."""
    home = project.folder_of(resume.recorded(folder)[0])
    if home is not None:
        project.make_importable(home)
    whole = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    targets.check({key: each for key, each in whole.items() if key not in _UNUSED})


def _composed(flags: Sequence[str], overrides: Sequence[str]) -> DictConfig:
    """Compose a configuration as the command line with these flags and overrides does."""
    chosen = dict(each.split("=", 1) for each in flags)
    search_path = create_automatic_config_search_path(None, None, chosen.get("--config-path", str(configs.root())))
    if "--config-dir" in chosen:
        search_path.prepend("command-line", f"file://{chosen['--config-dir']}", anchor="schema")
    GlobalHydra.instance().clear()
    try:
        hydra = Hydra.create_main_hydra2("evaluate", search_path)
        name = chosen.get("--config-name", "train")
        return hydra.compose_config(name, list(overrides), RunMode.RUN, with_log_configuration=False)
    finally:
        GlobalHydra.instance().clear()


def _check_unchanged(config: DictConfig, trained: DictConfig) -> None:
    """Raise an `InputError` if a model, or what losses read of the data, is not what the run was trained with."""
    for group in ("model", "loss"):
        raw, now, before = (
            dict(configs.leaves(cast(dict[str, Any], OmegaConf.to_container(each[group], resolve=resolve))))
            for each, resolve in ((config, False), (config, True), (trained, True))
        )
        for key in now.keys() & before.keys():
            source = str(raw[key]).removeprefix("${").removesuffix("}") if str(raw[key]).startswith("${data.") else ""
            if now[key] != before[key] and (source or group == "model"):
                typed = [str(value).replace(" ", "") for value in (now[key], before[key])]
                fix = f"; add {source}={typed[1]} if the data can be read so, or choose other data" if source else ""
                wanted = f"wanted {typed[1]}, as the run's {group}.{key} was trained with"
                raise InputError(f"{source or f'{group}.{key}'}={typed[0]}: {wanted}, found {typed[0]}{fix}")
