"""Explains errors of the user's input in one line, whether Hydra, OmegaConf, Lightning or lossframe raised them."""

import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from hydra.errors import ConfigCompositionException, HydraException, InstantiationException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lossframe import configs
from lossframe.errors import InputError, names, nearest
from lossframe.training.configuration.full_keys import full_key, written_out

_EXTRAS = {
    "optuna": "optuna",
    "joblib": "joblib",
    "submitit_local": "submitit",
    "submitit_slurm": "submitit",
    "ray": "ray",
}
"""The extra of lossframe that installs a choice of Hydra's groups, which is missing without it."""


class Refused(BaseException):
    """Carries the one line that a run ends with through Hydra, which would print lines of its own on an `Exception`."""


def explain(error: BaseException, config: DictConfig | None = None) -> str | None:
    """Return one line that says what is wrong with the input; None if the error is a defect of the program.

    With the configuration, parameters that the line speaks of are written as its keys.
    """
    message = str(error) if isinstance(error, HydraException | OmegaConfBaseException) else None
    for link in _chain(error):
        message = (_of_instantiation(link) if isinstance(link, InstantiationException) else _of_one(link)) or message
    if message is None:
        return None
    line = " ".join(message.replace("See https://hydra.cc", "; see https://hydra.cc").split())
    return line if config is None else written_out(line, error, config)


@contextmanager
def explained(config: DictConfig | None = None) -> Iterator[None]:
    """Raise an error of the user's input as an `InputError` of one line, with keys of a configuration if given."""
    try:
        yield
    except Exception as error:
        message = None if isinstance(error, InputError) and config is None else explain(error, config)
        if message is None:
            raise
        raise InputError(message) from error


def _of_instantiation(error: InstantiationException) -> str:
    """Return the message of what Hydra called, after the key of the call."""
    key = full_key(error)
    cause = str(error.__cause__ or "") or str(error).partition("\n")[0]
    return f"{key}: {cause}" if key else cause


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _choices(group: str, message: str) -> list[str]:
    """Return the choices of a group in all directories of a message's search path: for lists, Hydra names none."""
    folders = [Path(found.strip()) / group for found in re.findall(r"path=file://(.*)", message)]
    shipped = configs.choices(group) if group in configs.groups() else []
    return sorted({file.stem for folder in folders for file in folder.glob("*.yaml")} or shipped)


def _of_choice(error: MissingConfigException, file: str) -> str:
    """Return the message about a choice of a group, of which there is no such file."""
    group, _, choice = file.rpartition("/")
    if group in ("hydra/launcher", "hydra/sweeper") and (extra := _EXTRAS.get(choice)):
        return f"{group}={choice}: found no such plugin; add lossframe's extra: pip install -e '.[{extra}]'"
    if group not in configs.groups() and group.partition("/")[0] in configs.groups():  # a choice with a slash
        group, _, choice = file.partition("/")
    known = error.options or _choices(group, str(error))
    return f"{group or '--config-name'}={choice}: wanted one of {names(known)}.{nearest(choice, known)}"


def _of_composition(error: ConfigCompositionException) -> str | None:
    """Return the message of an error that Hydra raises while it composes, if this error says what to change."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _of_choice(error, error.missing_cfg_file)
    if isinstance(error, MissingConfigException) and "Primary config module" in str(error):
        return "--config-path: wanted an absolute path to a directory; --config-dir also takes a relative one"
    if merged := re.match(r"Error merging override (.*)", str(error)):
        cause = str(error.__cause__ or "another kind").partition("\n")[0]
        return f"{merged[1]}: wanted a value of the kind that is there, found {cause}"
    matches = ((re.search(pattern, str(error)), message) for pattern, message in _COMPOSING.items())
    return next((message(found[1]) for found, message in matches if found), None)


def _chosen_twice(what: str) -> str:
    group, of_loss, loss = what.partition("@loss.")
    if of_loss:
        return f"{loss} is chosen twice: choose it once, and again by +loss@second_{loss}={loss}"
    return _has_choice(group.partition("/")[0])


def _has_choice(group: str) -> str:
    return f"+{group}: the group {group} has a choice already; wanted {group}=CHOICE, without a plus"


def _elsewhere(key: str, config: DictConfig | None = None) -> str:
    """Say which choices of a key's group have the key, or where else a configuration has it; nothing if none has."""
    group, _, name = key.partition(".")
    if config is not None and not name:
        content = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
        ending = [
            full for full, value in configs.leaves(content) if full.endswith(f".{key}") and "${" not in str(value)
        ]
        return f" Did you mean {ending[0]}?" if len(ending) == 1 else ""
    choices = configs.choices(group) if group in configs.groups() else []
    having = [f"{group}={choice}" for choice in choices if name in configs.read(f"{group}/{choice}")]
    return f" It is a key of {', '.join(having)}" if having else ""


_COMPOSING: dict[str, Callable[[str], str]] = {
    r"^Multiple values for (\S+)\. ": _has_choice,
    r"^(\S+) appears more than once in the final defaults list": _chosen_twice,
    r"Either remove \+ prefix: '(.*?)'\s+Or add": lambda override: (
        f"+{override}: the key is there already; wanted {override}, without a plus"
    ),
    r"^Could not override '([\w.]+)'": lambda key: (
        f"{key}: found no {key.partition('.')[0]} that has this key.{_elsewhere(key)}"
    ),
}
"""What errors say that Hydra raises while it composes, by patterns of their messages."""


def _of_memory(error: BaseException) -> str | None:
    """Return the message of an allocation that failed, by numpy or by torch on any device; None for other errors."""
    if not isinstance(error, MemoryError) and not re.search("can't allocate memory|out of memory", str(error)):
        return None
    asked = re.search(r"(?i)(?:unable|tried) to allocate ([\d.]+ \w+)", str(error))
    found = f"an allocation of {asked[1]} that failed" if asked else "one that failed"
    return f"wanted no more memory than this machine has, found {found}; lower sizes, as of the model or a batch"


def _of_hydra(error: BaseException) -> str | None:
    """Return the message of an error that Hydra raises as none of its own; None for other errors."""
    if flag := re.match(r"Instantiation: (\w+) flag must be a bool, got <class '(\w+)'>\s*full_key: (\S+)", str(error)):
        return f"{flag[3]}.{flag[1]}: wanted true or false, found a {flag[2]}"
    places = [frame.filename for frame in traceback.extract_tb(error.__traceback__)[-20:]]
    if "maximum recursion depth" in str(error) and any(re.search("omegaconf|hydra|antlr", each) for each in places):
        return "wanted keys and values that are nested less deeply"
    return None


def _of_lightning(error: BaseException) -> str | None:
    """Return the message of an error that Lightning raises for a value of a Trainer."""
    if seldom := re.match(r" *`val_check_interval` \((\S+)\) must be .* training batches \((\d+)\)", str(error)):
        return (
            f"trainer.val_check_interval={seldom[1]}: wanted at most {seldom[2]}, the batches of an epoch; add "
            "trainer.check_val_every_n_epoch=null to count the batches of several epochs"
        )
    return str(error) if type(error).__name__ == "MisconfigurationException" else None


def _of_one(error: BaseException) -> str | None:
    """Return the message of one error of a chain, if this error says what to change."""
    of_module = isinstance(error, ModuleNotFoundError) and "pip install" in str(error)  # of an optional dependency
    if isinstance(error, InputError) or of_module:
        return str(error)
    if isinstance(error, ConfigCompositionException):
        return _of_composition(error)
    if isinstance(error, OmegaConfBaseException) and isinstance(error.parent_node, DictConfig) and error.parent_node:
        known = [str(key) for key in error.parent_node]
        if str(error.key) not in known:
            near = nearest(str(error.key), known) or _elsewhere(str(error.full_key), error.parent_node)
            return f"{error.full_key}: wanted one of {names(known)}.{near}"
    if scheme := re.match(r"No config source registered for schema (.*), supported", str(error)):
        return f"hydra.searchpath={scheme[1]}://...: wanted file://FOLDER or pkg://PACKAGE, found {scheme[1]}"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return _of_hydra(error) or _of_lightning(error) or _of_memory(error)
