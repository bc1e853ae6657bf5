"""Makes changed options of optimiser and scheduler hold where a training continues from a checkpoint.

A checkpoint restores the options that a run had, beside the moments that it has accumulated. Where the configuration
differs from the checkpoint's, the learning rate is what it would be had the run been started with the new options.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lossframe.errors import InputError
from lossframe.training.run_folder.checkpoints import trained_epochs

RECORD = "lossframe.optimisation"
"""The entry of a checkpoint that describes the optimiser and the scheduler that the run was trained with."""


def described(factory: Callable[..., Any] | None) -> Any:
    """Describe a factory by its name, and for a partial by its arguments too; None if there is none.

    >>> from functools import partial
    >>> described(partial(torch.optim.Adam, lr=0.1))
    ['torch.optim.adam.Adam', [], {'lr': 0.1}]
    """
    if factory is None:
        return None
    function = getattr(factory, "func", factory)
    name = f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    return [name, _plain(getattr(factory, "args", ())), _plain(getattr(factory, "keywords", {}))]


def make(name: str, factory: Callable[[Any], Any], argument: Any) -> Any:
    """Call a factory; an `InputError` names the one that refuses its arguments."""
    try:
        return factory(argument)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: {error}") from error


def restart(
    checkpoint: dict[str, Any],
    optimizer: Callable[[Any], Optimizer],
    scheduler: Callable[[Optimizer], LRScheduler] | None,
    parameters: list[nn.Parameter],
) -> None:
    """Replace the options in a loaded checkpoint by those of new factories, at the learning rate of its epoch.

    What the optimiser has accumulated for each parameter is kept if the new optimiser accumulates the same, and is
    dropped with a warning otherwise.
    """
    fresh = make("optimizer", optimizer, parameters)
    schedule = None if scheduler is None else make("scheduler", scheduler, fresh)
    if schedule is not None:
        _advance(schedule, trained_epochs(checkpoint))
    saved, state = checkpoint["optimizer_states"][0], fresh.state_dict()
    for group, old in zip(state["param_groups"], saved["param_groups"], strict=False):
        group["params"] = old["params"]  # names, where parameters are sharded
    if _accumulates_the_same(saved["state"], optimizer):
        state["state"] = saved["state"]
    else:
        rank_zero_warn(
            f"{type(fresh).__name__} starts with nothing accumulated: the checkpoint's optimizer accumulates other "
            "numbers. To go on with these, leave out the new optimizer and its options"
        )
    checkpoint["optimizer_states"] = [state]
    checkpoint["lr_schedulers"] = [] if schedule is None else [schedule.state_dict()]


def _plain(value: Any) -> Any:
    """Return a value in builtin types, which compare by value and need no class to be loaded from a checkpoint."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, str | bool | int | float | None):
        return value
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, Iterable):
        return [_plain(each) for each in value]
    return getattr(value, "__qualname__", type(value).__qualname__)


def _advance(schedule: LRScheduler, epochs: int) -> None:
    """Step a scheduler through epochs that were trained already."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*before `optimizer.step")  # that was before the checkpoint
        for _ in range(epochs):
            make("scheduler", lambda _: schedule.step(), None)


def _accumulates_the_same(saved: Mapping[Any, Mapping[str, Any]], optimizer: Callable[[Any], Optimizer]) -> bool:
    """Return whether the saved numbers of each parameter have the names that a new optimiser gives its own."""
    parameter = nn.Parameter(torch.zeros(2, 2))
    parameter.grad = torch.zeros(2, 2)
    probe = optimizer([parameter])
    probe.step(lambda: 0.0)
    wanted = set(probe.state[parameter])
    return all(set(numbers) == wanted for numbers in saved.values())
