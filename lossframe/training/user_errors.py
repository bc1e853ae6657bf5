"""Explains errors of the user's input in one line, whether Hydra, OmegaConf, Lightning or lossframe raised them."""

import re
from collections.abc import Iterator
from pathlib import Path

from hydra.errors import HydraException, InstantiationException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from lossframe import configs
from lossframe.errors import InputError, names, nearest


def explain(error: BaseException) -> str | None:
    """Return one line that says what is wrong with the input; None if the error is a defect of the program."""
    message = str(error) if isinstance(error, HydraException | OmegaConfBaseException) else None
    for link in _chain(error):
        if isinstance(link, InstantiationException):
            message = f"{message} ({str(link).rpartition('full_key: ')[2]})"
        else:
            message = _of_one(link) or message
    return None if message is None else " ".join(message.split())


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _choices(group: str, message: str) -> list[str]:
    """Return the choices of a group in all directories of a message's search path: for lists, Hydra names none."""
    folders = [Path(found.strip()) / group for found in re.findall(r"path=file://(.*)", message)]
    return sorted({file.stem for folder in folders for file in folder.glob("*.yaml")} or configs.choices(group))


def _of_one(error: BaseException) -> str | None:
    """Return the message of one error of a chain, if this error says what to change."""
    if isinstance(error, InputError) or type(error).__name__ == "MisconfigurationException":  # Lightning's
        return str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        known = error.options or _choices(group, str(error))
        return f"{group or '--config-name'}={choice}: wanted one of {names(known)}.{nearest(choice, known)}"
    if isinstance(error, MissingConfigException) and "Primary config module" in str(error):
        return "--config-path: wanted an absolute path to a directory; --config-dir also takes a relative one"
    if isinstance(error, OmegaConfBaseException) and error.parent_node:
        known = [str(key) for key in error.parent_node]
        if str(error.key) not in known:
            return f"{error.full_key}: wanted one of {names(known)}.{nearest(str(error.key), known)}"
    if twice := re.match(r"options@(\S+)\.(\S+) appears more than once", str(error)):
        group, name = twice.groups()
        return f"{group}: {name} is chosen twice; give one a name of its own, as in +{group}@second_{name}={name}"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return None
