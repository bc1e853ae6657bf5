"""Reads from a callable's signature which inputs it takes, and calls it with inputs by name."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from lossframe.errors import InputError, names
from lossframe.losses.base.loss import Loss

_PREDICTIONS = frozenset(["input", "input_", "log_input", "x", "pred", "y_pred", "p"])
_TARGETS = frozenset(["target", "target_", "y_true", "y", "t"])
"""What other libraries call the two inputs that the catalogue calls `prediction` and `target`."""
_LOGS = frozenset(["log_val", "log"])
"""Parameters that get `Loss.log`; babilim calls its own `log_val`."""
_SETTINGS = frozenset(["weight", "reduction", "reduce", "size_average"])
"""Parameters of criteria that configure the reduction, and are no inputs: bind them with `functools.partial`."""
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class Slot:
    """One argument of a callable: the input that it takes, and how. An empty `keyword` is passed by position only."""

    reads: str
    keyword: str = ""
    by_position: bool = True
    required: bool = True
    takes_log: bool = False


@dataclass(frozen=True)
class Arguments:
    """The arguments of a callable in order. `synonyms` maps further names of inputs to the names in `reads`."""

    slots: tuple[Slot, ...]
    synonyms: Mapping[str, str] = field(default_factory=dict)

    @property
    def reads(self) -> tuple[str, ...]:
        """The names of the inputs, in order."""
        return tuple(slot.reads for slot in self.slots if not slot.takes_log)

    @property
    def optional(self) -> frozenset[str]:
        """The names of the inputs that have a default."""
        return frozenset(slot.reads for slot in self.slots if not slot.required and not slot.takes_log)

    def call(self, function: Callable[..., Any], inputs: Mapping[str, Any], log: Callable[..., None]) -> Any:
        """Call a function with the inputs, those up to the first one left out by position."""
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        contiguous = True
        for slot in self.slots:
            if not slot.takes_log and slot.reads not in inputs:
                contiguous = False
                continue
            value = log if slot.takes_log else inputs[slot.reads]
            if contiguous and slot.by_position:
                args.append(value)
            else:
                kwargs[slot.keyword] = value
        return function(*args, **kwargs)


def arguments(function: Callable[..., Any], reads: Sequence[str] | None) -> Arguments:
    """Return the arguments of a callable, as its signature or `reads` names them.

    Without either, as of a builtin, the names are `prediction` and `target`.
    """
    if isinstance(reads, str):
        raise InputError(f"wanted reads as a list of names, found the text {reads!r}; write reads=[{reads}]")
    parameters = _parameters(function)
    kinds = None if parameters is None else [p.kind for p in parameters if p.name not in _SETTINGS]
    if reads is None and isinstance(function, Loss):
        reads = [name for name in function.reads if name not in function.optional]
    elif reads is None and (kinds is None or (kinds and all(kind in _VARIADIC for kind in kinds))):
        reads = ("prediction", "target")
    if reads is not None:
        return Arguments(tuple(_named(tuple(reads), parameters)))
    slots = [_slot(parameter) for parameter in parameters or () if _is_input(parameter, function)]
    if not any(not slot.takes_log for slot in slots):
        raise InputError(f"wanted a callable of at least one input, found {_shown(function)} without any")
    return _in_our_words(slots)


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """Return the parameters of a callable or of a module's `forward`; None of a builtin that tells nothing."""
    if isinstance(function, nn.Module):
        function = getattr(function, "_orig_mod", function).forward  # of torch.compile
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None


def _is_input(parameter: inspect.Parameter, function: Callable[..., Any]) -> bool:
    """Return whether a parameter takes an input: no setting, and nothing that a `functools.partial` has bound."""
    bound = function.keywords if isinstance(function, functools.partial) else {}
    if parameter.kind in _VARIADIC or parameter.name in bound:
        return False
    if parameter.name in _SETTINGS and parameter.default is parameter.empty:
        raise InputError(
            f"{_shown(function)} has a parameter {parameter.name!r} without a default, which cannot be an input; bind "
            f"it with functools.partial(..., {parameter.name}=...), or name the inputs, reads=[...]"
        )
    return parameter.name not in _SETTINGS


def _slot(parameter: inspect.Parameter) -> Slot:
    return Slot(
        reads=parameter.name,
        keyword="" if parameter.kind is parameter.POSITIONAL_ONLY else parameter.name,
        by_position=parameter.kind is not parameter.KEYWORD_ONLY,
        required=parameter.default is parameter.empty,
        takes_log=parameter.name == "log_val" or (parameter.name in _LOGS and parameter.default is parameter.empty),
    )


def _in_our_words(slots: Sequence[Slot]) -> Arguments:
    """Name a prediction and a target as the catalogue does, and accept the callable's own names too.

    Any callable of two inputs also accepts `prediction` and `target`.
    """
    reads = [slot.reads for slot in slots if not slot.takes_log]
    ours = ["prediction", "target"]
    if len(reads) > 1 and reads[0] in _PREDICTIONS and reads[1] in _TARGETS and not {*ours} & {*reads[2:]}:
        renamed = dict(zip(reads, ours, strict=False))
        synonyms = {own: our for own, our in renamed.items() if own != our}
        return Arguments(tuple(replace(slot, reads=renamed.get(slot.reads, slot.reads)) for slot in slots), synonyms)
    required = [slot.reads for slot in slots if slot.required and not slot.takes_log]
    if required == reads[:2] and len(required) == 2 and not {*ours} & {*reads}:
        return Arguments(tuple(slots), dict(zip(ours, required, strict=True)))
    return Arguments(tuple(slots))


def _named(reads: tuple[str, ...], parameters: list[inspect.Parameter] | None) -> list[Slot]:
    """Return slots with given names: by keyword beyond the parameters of a function with `**kwargs`, else in order."""
    if len(set(reads)) < len(reads) or {"weight"} & {*reads}:
        raise InputError(f"wanted distinct names of inputs other than 'weight', found reads={names(reads)}")
    if parameters is None or any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return [Slot(name) for name in reads]
    known = [p for p in parameters if p.kind not in _VARIADIC]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        own = {p.name: _slot(p) for p in known}
        return [own[name] if name in own else Slot(name, name, by_position=False) for name in reads]
    inputs, rest = [p for p in known if not _slot(p).takes_log], [_slot(p) for p in known if _slot(p).takes_log]
    if len(reads) > len(inputs) or any(_slot(p).required for p in inputs[len(reads) :]):
        wanted = names(p.name for p in inputs)
        raise InputError(f"wanted in reads a name for each of the parameters {wanted}, found {names(reads)}")
    return [*(replace(_slot(p), reads=name) for name, p in zip(reads, inputs, strict=False)), *rest]


def _shown(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)
