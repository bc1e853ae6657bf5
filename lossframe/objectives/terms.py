"""Checks the constructor's arguments of an objective: its terms, and what their weights and inputs name."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from lossframe import saved
from lossframe.errors import InputError, names, nearest
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.wanted import loss_remedy

RESERVED = frozenset(["total"])
"""Names that a term cannot have, because curves of the objective have them."""

_OF_MODULES = nn.ModuleDict()
"""A module without terms: a term cannot be called like one of its attributes."""


def check_terms(
    losses: Mapping[str, Loss], weights: Mapping[str, float], inputs: Mapping[str, Any], optional: Any = ()
) -> None:
    """Raise an `InputError` unless every term is a loss that can be summed, and the other arguments name terms."""
    for given, what, example in (
        (losses, "loss", "loss.NAME=..., a loss under each name"),
        (weights, "weights", "weights.TERM=0.5"),
        (inputs, "inputs", "inputs.TERM.PARAMETER=ENTRY"),
    ):
        if not isinstance(given, Mapping | nn.ModuleDict):
            raise InputError(f"{what}={given}: wanted a mapping, found {type(given).__name__}; set one by {example}")
    if not losses:
        raise InputError("an Objective wants at least one loss, found none; choose one, as in loss=triplet")
    for name, loss in losses.items():
        _check_name(name)
        if not isinstance(loss, Loss):
            raise InputError(f"term {name!r} {loss_remedy(loss)}")
        if loss.reduction == "none":
            raise InputError(f"term {name!r} has reduction='none'; an Objective adds scalars: choose another")
    if keys := left_over(losses, weights, inputs):
        raise InputError(no_term(keys, losses))
    _check_optional(optional, losses)
    _check_shared(losses)


def _check_optional(optional: Any, losses: Iterable[str]) -> None:
    if isinstance(optional, str) or not isinstance(optional, Iterable):
        raise InputError(f"optional={optional}: wanted a list of terms, as optional=[{next(iter(losses))}]")
    for name in optional:
        if name not in losses:
            raise InputError(f"optional=[{name}]: the terms are {names(losses)}.{nearest(str(name), list(losses))}")


def check_state(losses: nn.ModuleDict, state: Mapping[str, Any], prefix: str) -> None:
    """Raise an `InputError` if a state has terms that an objective lacks, or lacks a term that has a state to load.

    A loss without parameters and buffers may be added to a saved objective.
    """
    if own := state.get(f"{prefix}_extra_state"):
        check_own_state(own, f"{prefix}_extra_state")
    before = _saved_terms(state, prefix)
    fewer = [name for name in before if name not in losses]
    more = [name for name, loss in losses.items() if name not in before and _has_tensors(loss)]
    if fewer or more:
        remedy = f"; {' '.join(f'weights.{name}=0' for name in fewer)} leaves out what is not wanted" if fewer else ""
        raise InputError(
            f"the checkpoint has the terms {names(before)}, the objective {names(losses)}; choose the same losses, "
            f"loss=[{','.join(before)}]{remedy}"
        )


def check_own_state(state: object, name: str) -> None:
    """Raise a `StateError` unless a state is what an objective saves of itself."""
    number = int | float
    progress = {"samples": number, "steps": saved.Maybe(number), "epochs": saved.Maybe(number)}
    saved.check(state, {"configured": {...: number}, "current": {...: number}, "progress": progress}, name)


def _saved_terms(state: Mapping[str, Any], prefix: str) -> list[str]:
    """Return the terms of a state: those with a weight, and those with tensors of their own."""
    weighted = list((state.get(f"{prefix}_extra_state") or {}).get("configured", {}))
    losses = f"{prefix}losses."
    return list(
        dict.fromkeys(weighted + [k.removeprefix(losses).partition(".")[0] for k in state if k.startswith(losses)])
    )


def _has_tensors(loss: nn.Module) -> bool:
    return any(True for _ in loss.parameters()) or any(True for _ in loss.buffers())


def _check_name(name: Any) -> None:
    """Raise an `InputError` unless a name can be that of a module and of a curve."""
    if not isinstance(name, str):
        raise InputError(f"a term cannot be called {name!r}: wanted a name as text, found {type(name).__name__}")
    if "." in name or "/" in name or not name or hasattr(_OF_MODULES, name):
        raise InputError(
            f"a term cannot be called {name!r}: choose a name without dots and slashes that no module has already"
        )
    if name in RESERVED:
        raise InputError(f"a term cannot be called {name!r}: that is a curve of the objective; choose another name")


def left_over(losses: Iterable[str], weights: Iterable[str], inputs: Iterable[str]) -> list[str]:
    """Return the keys of weights and inputs that name no term, as `weights.center`."""
    given = [("weights", name) for name in weights] + [("inputs", name) for name in inputs]
    return [f"{what}.{name}" for what, name in given if name not in losses]


def no_term(keys: Sequence[str], losses: Iterable[str]) -> str:
    """Say that keys of weights and inputs name no term, and which terms there are."""
    terms = [str(name) for name in losses]
    guess = nearest(keys[0].partition(".")[2], terms)
    return f"{', '.join(keys)}: wanted the name of a term; the terms are {names(terms)}.{guess}"


def _check_shared(losses: Mapping[str, Loss]) -> None:
    """Raise an `InputError` if two terms hold one loss."""
    for name, loss in losses.items():
        shared = [other for other, same in losses.items() if other != name and any(m is same for m in loss.modules())]
        if shared:
            raise InputError(
                f"terms {name!r} and {shared[0]!r} hold one {type(losses[shared[0]]).__name__}, whose statistics would "
                "mix; give each term its own loss, as by copy.deepcopy"
            )
