"""Reads the form of command line arguments before Hydra does: flags, overrides, and groups that are left empty."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from lossframe import configs
from lossframe.errors import InputError, names, nearest

_EMPTY = {"logger": "[]", "callbacks": "[]", "metrics": "[]", "scheduler": "none"}
"""The choice that leaves a group empty, of the groups that may be: what `GROUP=null` stands for."""
_FORM = "wanted GROUP=CHOICE or KEY=VALUE, without spaces"


class UsageError(InputError):
    """The arguments do not have the form of a command line; the exit status is 2."""


def normalised(arguments: Sequence[str]) -> list[str]:
    """Return arguments as Hydra takes them: flags, then overrides in one piece, no group null, absolute paths of flags.

    Raises a `UsageError` if an argument is no flag and no override.
    """
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    known, unknown = parser.parse_known_intermixed_args(list(arguments))
    if unknown:
        raise UsageError(_unknown_flag(unknown[0], parser.format_usage().split()))
    flags = list(arguments)
    for each in known.overrides:
        flags.remove(each)
    if known.shell_completion:
        return [*flags, *known.overrides]
    if known.config_path and Path(known.config_path).is_dir():  # Hydra looks for it beside lossframe's own files
        flags.append(f"--config-path={Path(known.config_path).absolute()}")
    return [*flags, *filter(None, map(_override, known.overrides))]


def _refuse(message: str) -> NoReturn:
    raise UsageError(f"{message}; python train.py --hydra-help lists the flags")


def _unknown_flag(flag: str, known: Sequence[str]) -> str:
    name, equals, _ = flag.partition("=")
    if equals:
        return f"{flag}: wanted an override without dashes, {flag.lstrip('-')}"
    flags = [word.strip("[]") for word in known if word.startswith("[-")]
    return f"{flag}: wanted one of {names(flags)}.{nearest(name, flags)} A key is given as KEY=VALUE, without dashes"


def _override(text: str) -> str | None:
    """Return an override in Hydra's grammar; None if it chooses nothing where that is the default."""
    try:
        parsed = OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise UsageError(f"{text}: {_remedy(text)}") from error
    group = parsed.key_or_group
    if group.startswith("schedule.") and text.startswith("schedule."):
        return f"++{text}"  # no file of conf/ names the terms that may have one
    if group in ("trainer.logger", "trainer.callbacks"):
        chosen = group.partition(".")[2]
        raise InputError(f"{text}: wanted a choice of the group {chosen}; use {chosen}=[] for none")
    if parsed.package is not None or parsed.is_delete() or group not in configs.groups() or None not in _values(parsed):
        return text
    if group == "experiment" and not parsed.is_sweep_override():
        return None
    if group not in _EMPTY:
        raise InputError(f"{group}=null: wanted one of {names(configs.choices(group))}")
    if parsed.is_sweep_override():
        raise InputError(f"{text}: wanted {_EMPTY[group]} for none, as {group}={_EMPTY[group]}, found null")
    return f"{group}={_EMPTY[group]}"


def _values(override: Override) -> list[Any]:
    """Return the values of an override: one, or those of a sweep over choices."""
    if override.is_sweep_override():
        return list(override.value().list) if override.is_choice_sweep() else []  # type: ignore[union-attr]
    return [override.value()]


def _remedy(text: str) -> str:
    """Say what to type instead of an argument that is no override."""
    key, equals, value = text.partition("=")
    groups = [group for group in configs.groups() if text in configs.choices(group)]
    if any(value.count(opening) != value.count(closing) for opening, closing in ("[]", "{}", "()")):
        return "wanted a list with both brackets, in quotes and without spaces, as 'loss=[triplet,center]'"
    if equals and key and " " not in key:
        quoted = value.replace("\\", "\\\\").replace('"', r"\"").replace("'", r"'\''")
        return f"wanted a plain value, or one in two pairs of quotes: '{key}=\"{quoted}\"'"
    if groups:
        return f"{_FORM}, as {' or '.join(f'{group}={text}' for group in groups)}"
    if ":" in text:
        return f"{_FORM}, as {text.replace(':', '=', 1).replace(' ', '')}"
    return f"{_FORM}, as loss=triplet"
