"""Imports the classes and functions that a configuration names."""

from collections.abc import Iterator, Mapping
from typing import Any

from hydra._internal.utils import _locate

from lossframe.errors import InputError


def located(key: str, target: str) -> Any:
    """Return what a `_target_` names; an `InputError` names the key if it cannot be imported, or not be called."""
    name = f"{key}._target_={target}"
    try:
        found = _locate(target)  # Hydra's public function also writes into the log
    except Exception as error:  # the module may fail in any way
        cause = _cause(error)
        if cause == "No module named 'optuna'":
            remedy = "add lossframe's extra 'pruning': pip install -e '.[pruning]'"
            raise InputError(f"{key}: optuna is not installed; {remedy}") from error
        raise InputError(
            f"{name} cannot be imported ({cause}): wanted MODULE.NAME of a class or function; if the module is your "
            "own, put its folder on the path, as by PYTHONPATH=FOLDER"
        ) from error
    if not callable(found):
        raise InputError(f"{name}: wanted a class or function, found a {type(found).__name__}")
    return found


def check(content: Mapping[str, Any]) -> None:
    """Raise an `InputError` for a class or function of a nested configuration that cannot be imported."""
    for key, target in named(content):
        if isinstance(target, str) and target:
            located(key, target)


def named(content: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the key and the class or function of everything that a nested configuration makes."""
    for key, value in content.items():
        if key == "_target_":
            yield path, value
        elif content.get("_recursive_", True):
            yield from _named_within(value, f"{path}.{key}" if path else str(key))


def _named_within(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from named(value, path)
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _named_within(each, f"{path}[{number}]")


def _cause(error: BaseException) -> str:
    """Return the message of the first error of a chain in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()) or type(error).__name__
