"""Checks that a checkpoint holds all that a training goes on from, before Lightning restores what it finds."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lossframe import saved
from lossframe.errors import names

_FORM = {
    "callbacks": {...: dict},
    "optimizer_states": [{"state": {...: dict}, "param_groups": [{"params": [int]}]}],
    "lr_schedulers": [dict],
}
_OF_LOADER = "combined_loader"
"""The positions of loaders that Lightning saves: those that have one."""
_SIZES = (2, 3, 2, 3, 2, 3, 2, 3)
"""Sizes of the dimensions of an example, which are no parameter's by chance."""


def check(found: Mapping[str, Any], trainer: pl.Trainer, trained: int) -> None:
    """Raise a `StateError` that names the first part of a checkpoint which is missing or of another form.

    `trained` is the number of parameters that the only optimiser trains. Warns of callbacks and data of which a
    checkpoint holds nothing, which may be new: they start anew.
    """
    saved.check(found, _FORM, "the checkpoint")
    counts = [sum(len(group["params"]) for group in state["param_groups"]) for state in found["optimizer_states"]]
    if counts != [trained]:
        raise saved.StateError(f"optimizer_states: wanted one optimizer of {trained} parameters, found {counts}")
    saved.check(found["loops"], {"fit_loop": _loop_form(trainer)}, "loops")
    _check_callbacks(found["callbacks"], getattr(trainer, "callbacks"))  # noqa: B009 - Lightning's stubs lack it
    saved.check(found, {"averaging_state": {"n_averaged": Tensor}} if "averaging_state" in found else {}, "callbacks")
    data: Any = getattr(trainer, "datamodule", None)
    if data is not None and type(data).__qualname__ not in found and data.state_dict():
        _warn(f"the data of {type(data).__qualname__}")


def check_accumulated(
    found: Mapping[str, Any], factory: Callable[[Any], Optimizer], parameters: Mapping[str, nn.Parameter]
) -> None:
    """Check that the optimiser has accumulated numbers of each trained parameter, of its shape."""
    (state,) = found["optimizer_states"]
    kept = [key for group in state["param_groups"] for key in group["params"]]
    trained = {name: each for name, each in parameters.items() if each.requires_grad}
    if not (wanted := _accumulated(factory, {parameter.ndim for parameter in trained.values()})):
        return
    none = []
    for key, (name, parameter) in zip(kept, trained.items(), strict=True):
        if numbers := state["state"].get(key):
            _check_numbers(numbers, wanted[parameter.ndim], parameter, f"optimizer_states[0].state.{key}")
        else:
            none.append(name)
    if none:
        _warn(
            f"what the optimizer had accumulated of {names(none[:3])}{f' and {len(none) - 3} more' * (len(none) > 3)}"
        )


def check_options(
    found: Mapping[str, Any],
    optimizer: Callable[[Any], Optimizer],
    scheduler: Callable[[Optimizer], LRScheduler] | None,
    parameters: Sequence[nn.Parameter],
) -> None:
    """Check that there are all options of the optimiser, and a state of the scheduler, if any, that they restore."""
    fresh = optimizer([nn.Parameter(torch.zeros(_SIZES[: parameters[0].ndim]))])
    wanted = [] if scheduler is None else [scheduler(fresh).state_dict()]
    for number, group in enumerate(found["optimizer_states"][0]["param_groups"]):
        form = saved.form_of(fresh.state_dict()["param_groups"][0])
        saved.check(group, form, f"optimizer_states[0].param_groups[{number}]")
    if len(wanted) != len(found["lr_schedulers"]):
        states = len(found["lr_schedulers"])
        raise saved.StateError(f"lr_schedulers: wanted the states of {len(wanted)}, found {states}")
    saved.check(found["lr_schedulers"], tuple(map(saved.form_of, wanted)), "lr_schedulers")


def _loop_form(trainer: pl.Trainer) -> saved.Form:
    """Return the form of the progress of training, which Lightning restores as far as it finds it."""
    state = dict(trainer.fit_loop.state_dict())
    state["state_dict"] = {name: each for name, each in state["state_dict"].items() if name != _OF_LOADER}
    return saved.form_of(state)


def _check_callbacks(states: Mapping[str, Any], callbacks: Iterable[pl.Callback]) -> None:
    """Check the states of Lightning's callbacks; others check their own. Warn of those that have none."""
    absent = []
    for callback in callbacks:
        name = type(callback).__name__
        if type(callback).state_dict is pl.Callback.state_dict:
            continue
        if not (state := states.get(callback.state_key)):
            absent.append(name)
        elif type(callback).__module__.startswith(("pytorch_lightning.", "lightning.")):
            saved.check(state, saved.form_of(callback.state_dict()), name)
    if absent:
        _warn(", ".join(absent))


def _check_numbers(state: Mapping[str, Any], example: Mapping[str, Any], parameter: Tensor, name: str) -> None:
    """Check what is accumulated of a parameter by that of an example: of its shape where the example has its own."""
    for key, number in example.items():
        saved.check(state, {key: Tensor if isinstance(number, Tensor) else object}, name)
        if not isinstance(number, Tensor):
            continue
        found, wanted = list(state[key].shape), None
        if number.shape == _SIZES[: parameter.ndim]:
            wanted = list(parameter.shape)
        elif number.ndim == 0:
            wanted = []
        if wanted is not None and found != wanted:
            raise saved.StateError(f"{name}.{key}: wanted the parameter's shape {wanted}, found {found}")


def _accumulated(factory: Callable[[Any], Optimizer], dimensions: set[int]) -> dict[int, dict[str, Any]]:
    """Return what an optimiser accumulates of a parameter by its number of dimensions, of the shape `_SIZES`.

    Nothing for an optimiser that does not keep numbers of each parameter, such as LBFGS.
    """
    probes = {ndim: nn.Parameter(torch.zeros(_SIZES[:ndim])) for ndim in dimensions}
    for probe in probes.values():
        probe.grad = torch.zeros_like(probe)
    optimizer = factory(list(probes.values()))
    optimizer.step(lambda: 0.0)
    kept = {ndim: dict(optimizer.state.get(probe, {})) for ndim, probe in probes.items()}
    return kept if all(kept.values()) else {}


def _warn(what: str) -> None:
    rank_zero_warn(f"the checkpoint holds nothing of {what}: this starts anew")
