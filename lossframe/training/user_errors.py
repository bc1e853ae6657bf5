"""Explains errors of the user's input in one line, whether Hydra, OmegaConf, Lightning or lossframe raised them."""

from collections.abc import Iterator

from hydra.errors import HydraException, InstantiationException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from lossframe import configs
from lossframe.errors import InputError, names, nearest
from lossframe.training.full_keys import written_out


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


def _of_instantiation(error: InstantiationException) -> str:
    """Return the message of what Hydra called, after the key of the call."""
    key = str(error).rpartition("full_key: ")[2].strip()
    cause = str(error.__cause__ or "") or str(error).partition("\n")[0]
    return f"{key}: {cause}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _of_one(error: BaseException) -> str | None:
    """Return the message of one error of a chain, if this error says what to change."""
    if isinstance(error, InputError) or type(error).__name__ == "MisconfigurationException":  # Lightning's
        return str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        known = error.options or configs.choices(group)  # for group=[several], Hydra lists no options
        return f"{group or '--config-name'}={choice}: wanted one of {names(known)}.{nearest(choice, known)}"
    if isinstance(error, MissingConfigException) and "Primary config module" in str(error):
        return "--config-path: wanted an absolute path to a directory; --config-dir also takes a relative one"
    if isinstance(error, OmegaConfBaseException) and error.parent_node:
        known = [str(key) for key in error.parent_node]
        if str(error.key) not in known:
            return f"{error.full_key}: wanted one of {names(known)}.{nearest(str(error.key), known)}"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return None
