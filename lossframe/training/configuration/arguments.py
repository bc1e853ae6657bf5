"""Reads the form of command line arguments before Hydra does: flags, overrides, and groups that are left empty."""

import re
from collections.abc import Iterable, Sequence
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
CONFIG_FLAGS = ("--config-path", "--config-name", "--config-dir")
"""The flags that choose a configuration."""
_LONGEST = 500
"""Characters of the longest argument that a message shows whole."""
_FORM = "wanted GROUP=CHOICE or KEY=VALUE, without spaces"


class UsageError(InputError):
    """The arguments do not have the form of a command line; the exit status is 2."""


def normalised(arguments: Sequence[str]) -> list[str]:
    """Return arguments as Hydra takes them: flags, then overrides in one piece, no group null, absolute paths of flags.

    `--resume RUN` becomes `ckpt=RUN`, and `--resume` alone `ckpt=last`.
    Raises a `UsageError` if an argument is no flag and no override.
    """
    arguments = _with_checkpoint(list(arguments))
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    known, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        raise UsageError(_unknown_flag(unknown[0], parser.format_usage().split()))
    flags = list(arguments)
    for each in known.overrides:
        flags.remove(each)
    if known.shell_completion:
        return [*flags, *known.overrides]
    for flag, value in chosen_configuration(flags).items():  # Hydra looks for paths beside lossframe's own files
        if flag != "--config-name" and Path(value).is_dir():
            flags.append(f"{flag}={Path(value).absolute()}")
    return [*flags, *filter(None, map(_override, known.overrides))]


def chosen_configuration(arguments: Sequence[str]) -> dict[str, str]:
    """Return the flags among command line arguments that choose a configuration, by their long names."""
    known, _ = get_args_parser().parse_known_intermixed_args(list(arguments))
    values = {flag: getattr(known, flag[2:].replace("-", "_")) for flag in CONFIG_FLAGS}
    return {flag: value for flag, value in values.items() if value is not None}


def key_of(override: str) -> str:
    """Return the key or group of an override, as `data.seed` of `+data.seed=1`."""
    return override.lstrip("+~").partition("=")[0]


def overrides_by_key(arguments: Iterable[str]) -> dict[str, str]:
    """Return the overrides among command line arguments, key -> override."""
    return {key_of(each): each for each in arguments if each[:1] == "~" or ("=" in each and each[:1] != "-")}


def value_of(override: str) -> str:
    """Return the value of an override, without quotes; an empty text for null."""
    value = override.partition("=")[2]
    if value[:1] in ("'", '"') and value[-1:] == value[0]:
        return value[1:-1].replace(f"\\{value[0]}", value[0])
    return "" if value == "null" else value


def quoted(value: object) -> str:
    """Return a value as Hydra's grammar reads it, in quotes if need be."""
    text = str(value)
    return text if re.fullmatch(r"[\w./@-]+", text) else "'" + text.replace("'", r"\'") + "'"


def _with_checkpoint(arguments: list[str]) -> list[str]:
    """Replace `--resume`, `--resume RUN` and `--resume=RUN`; an override or a flag is no RUN."""
    at = next((at for at, each in enumerate(arguments) if each.partition("=")[0] == "--resume"), None)
    if at is None:
        return arguments
    _, equals, run = arguments[at].partition("=")
    behind = arguments[at + 1 :]
    if not equals and behind and (Path(behind[0]).exists() or not re.search("^[-~]|=", behind[0])):
        run, *behind = behind
    return [*arguments[:at], f"ckpt={quoted(run or 'last')}", *behind]


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
    except (HydraException, RecursionError) as error:  # the latter of brackets in brackets
        said = f"{text}: {_remedy(text)}" if len(text) <= _LONGEST else f"{text[:60]}...: {_FORM}"
        raise UsageError(said) from error
    group = parsed.key_or_group
    if group.startswith("schedule.") and text.startswith("schedule."):
        return f"++{text}"  # no file of conf/ names the terms that may have one
    if group in ("trainer.logger", "trainer.callbacks"):
        chosen = group.partition(".")[2]
        raise InputError(f"{text}: wanted a choice of the group {chosen}; use {chosen}=[] for none")
    if parsed.is_delete() and text == f"~{group}" and group in _EMPTY:
        return f"{group}={_EMPTY[group]}"
    if parsed.package is not None or parsed.is_delete() or group not in configs.groups():
        return text
    return _chosen(text, parsed)


def _chosen(text: str, parsed: Override) -> str | None:
    """Return an override that chooses from a group; None if it chooses nothing where that is the default."""
    group = parsed.key_or_group
    each = [one for value in _values(parsed) for one in (value if isinstance(value, list) else [value])]
    if any(isinstance(one, bool | int | float) for one in each):
        raise InputError(f"{text}: wanted one of {names(configs.choices(group))}")
    if None not in each:
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
