"""Checks the form of what a checkpoint holds, before a part of the program reads it."""

from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, NamedTuple

from lossframe.errors import InputError

Form = Any
"""Describes what was saved.

A type, or a union of types, stands for an instance; `{"a": form}` for a mapping with at least these keys; `{...: form}`
for a mapping of any keys; `[form]` for a list of any length; a tuple of forms for a list of this length; `Maybe(form)`
for what may be None.
"""


class StateError(InputError):
    """A part of a checkpoint is not in the form in which it was saved; the message names the part by its keys."""


class Maybe(NamedTuple):
    """The form of what may be None."""

    form: Form


def check(state: object, form: Form, name: str) -> None:
    """Raise a `StateError` that names the first part of a state which has not its form.

    >>> check({"calls": "3"}, {"calls": int}, "memory")
    Traceback (most recent call last):
    ...
    lossframe.saved.StateError: memory.calls: wanted int as it was saved, found '3'
    """
    match form:
        case Maybe():
            if state is not None:
                check(state, form.form, name)
        case type() | UnionType():
            if not isinstance(state, form):
                raise StateError(f"{name}: wanted {_of_types(form)} as it was saved, found {_shown(state)}")
        case {**parts}:
            _check_mapping(state, parts, name)
        case _:
            check(state, list | tuple, name)
            _check_items(state, form, name)


def form_of(example: object) -> Form:
    """Return the form of a state like an example: the same keys, values of the same types, anything where it is None.

    Lists, and mappings without keys, may hold anything.
    """
    if isinstance(example, Mapping):
        return {key: form_of(each) for key, each in example.items()} or {...: object}
    if isinstance(example, int | float):
        return bool if isinstance(example, bool) else int | float
    return object if example is None else list | tuple if isinstance(example, list | tuple) else type(example)


def _check_mapping(state: object, parts: Mapping[Any, Form], name: str) -> None:
    if not isinstance(state, Mapping):
        raise StateError(f"{name}: wanted a mapping as it was saved, found {_shown(state)}")
    every = parts.get(...)
    for key in state if ... in parts else parts:
        if key not in state:
            raise StateError(f"{name}.{key}: wanted what was saved, found nothing")
        check(state[key], every if ... in parts else parts[key], f"{name}.{key}")


def _check_items(state: Any, form: Sequence[Form], name: str) -> None:
    if isinstance(form, tuple) and len(state) != len(form):
        raise StateError(f"{name}: wanted {len(form)} items as they were saved, found {len(state)}")
    forms = form if isinstance(form, tuple) else [form[0]] * len(state)
    for number, (item, each) in enumerate(zip(state, forms, strict=True)):
        check(item, each, f"{name}[{number}]")


def _of_types(form: type | UnionType) -> str:
    return form.__name__ if isinstance(form, type) else str(form)


def _shown(state: object) -> str:
    short = isinstance(state, str | int | float | None) and len(repr(state)) < 60
    return repr(state) if short else type(state).__name__
