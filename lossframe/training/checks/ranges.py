"""Ranges of parameters of other libraries' classes, checked before torch is imported.

Classes of lossframe, and a user's own, check their parameters in their constructors. The classes of this table accept
values that cannot work, refuse them when a training has begun, or refuse them in words that name no key.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from math import inf, isfinite
from typing import Any, NamedTuple

from lossframe.errors import InputError, names
from lossframe.training.checks.kinds import shown
from lossframe.training.configuration.full_keys import source


class Range(NamedTuple):
    """The values that a parameter takes: in words, and as a test of values of some kinds; others are not tested."""

    wanted: str
    kinds: type | tuple[type, ...]
    holds: Callable[[Any], bool]


_NUMBERS = (int, float)


def _at_least(low: float) -> Range:
    return Range(f"{low} or more", _NUMBERS, lambda value: value >= low)


def _finite(low: float) -> Range:
    return Range(f"a finite number, {low} or more", _NUMBERS, lambda value: low <= value < inf)


def _within(low: float, high: float) -> Range:
    return Range(f"a number from {low} to {high}", _NUMBERS, lambda value: low <= value <= high)


def _one_of(*choices: str) -> Range:
    return Range(f"one of {names(choices)}", str, lambda value: value in choices)


def _pair(low: float, below: float) -> Range:
    def holds(values: Any) -> bool:
        return len(values) == 2 and all(isinstance(each, _NUMBERS) and low <= each < below for each in values)

    return Range(f"two numbers, each {low} or more and below {below}, as [0.9,0.999]", (list, tuple), holds)


def _batches(least: str, holds: Callable[[float], bool]) -> Range:
    wanted = f"a share of the batches, {least} to 1.0, or a whole number of batches"
    return Range(wanted, _NUMBERS, lambda value: holds(value) and (value <= 1 or (isfinite(value) and value % 1 == 0)))


_FINITE = Range("a finite number", _NUMBERS, isfinite)
_SHARE = _batches("0.0", lambda value: value >= 0)
_TRUTH_OR_WARN = Range("true, false or warn", str, lambda value: value == "warn")
_DURATION = Range(
    "days, hours, minutes and seconds, as 00:12:00:00",
    (str, int, float, list, dict),
    lambda value: isinstance(value, str) and bool(re.fullmatch(r"\d+:\d\d?:\d\d?:\d\d?", value.strip())),
)
_RANGES: Mapping[str, Mapping[str, Range]] = {
    "*.Trainer": {
        "max_epochs": _at_least(-1), "min_epochs": _at_least(0), "max_steps": _at_least(-1), "min_steps": _at_least(0),
        "max_time": _DURATION, "num_nodes": _at_least(1), "log_every_n_steps": _at_least(0),
        "limit_train_batches": _SHARE, "limit_val_batches": _SHARE, "limit_test_batches": _SHARE,
        "overfit_batches": _SHARE, "val_check_interval": _batches("more than 0.0", lambda value: value > 0),
        "check_val_every_n_epoch": _at_least(1), "num_sanity_val_steps": _at_least(-1),
        "accumulate_grad_batches": _at_least(1), "gradient_clip_algorithm": _one_of("norm", "value"),
        "gradient_clip_val": _at_least(0), "deterministic": _TRUTH_OR_WARN,
    },
    "*.ModelParallelStrategy": {"data_parallel_size": _at_least(1), "tensor_parallel_size": _at_least(1)},
    "torch.optim.*": {
        "lr": _finite(0), "weight_decay": _finite(0), "eps": _finite(0), "momentum": _within(0, 1),
        "betas": _pair(0, 1),
    },
    "torch.optim.lr_scheduler.*": {
        "step_size": _at_least(1), "T_max": _at_least(1), "T_0": _at_least(1), "T_mult": _at_least(1),
        "total_iters": _at_least(1), "gamma": _finite(0), "eta_min": _finite(0), "factor": _finite(0),
    },
    "*EarlyStopping": {"patience": _at_least(0), "min_delta": _finite(0), "stopping_threshold": _FINITE},
    "*.EMAWeightAveraging": {
        "decay": _within(0, 1), "update_every_n_steps": _at_least(1), "update_starting_at_step": _at_least(0),
    },
    "*ModelSummary": {"max_depth": _at_least(-1)},
    "*.LearningRateMonitor": {"logging_interval": _one_of("step", "epoch")},
    "optuna.pruners.*": {"n_startup_trials": _at_least(0), "n_warmup_steps": _at_least(0)},
}  # fmt: skip
"""The ranges of the parameters of classes, by patterns of the classes' full names."""


def check(values: Mapping[str, Any], written: Mapping[str, Any]) -> None:
    """Raise an `InputError` for a value out of its range, in a configuration with and without resolved interpolations.

    The error names the key that the value is copied from.
    """
    for key, value, wanted in outside(values):
        typed = source(key, written)
        reader = "" if typed == key else f", because {key} reads it"
        raise InputError(f"{typed}={shown(value).replace(' ', '')}: wanted {wanted}, found {shown(value)}{reader}")


def outside(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any, str]]:
    """Yield key, value and wanted range of each value that is out of the range of a class's parameter.

    >>> list(outside({"optimizer": {"_target_": "torch.optim.Adam", "lr": -1}}))
    [('optimizer.lr', -1, 'a finite number, 0 or more')]
    """
    known = _of(str(config.get("_target_", "")))
    for key, value in config.items():
        if key in known and isinstance(value, known[key].kinds) and not isinstance(value, bool):
            if not known[key].holds(value):
                yield f"{path}{key}", value, known[key].wanted
        elif isinstance(value, Mapping) and config.get("_recursive_", True):
            yield from outside(value, f"{path}{key}.")


def _of(target: str) -> dict[str, Range]:
    """Return the ranges of the parameters of a class."""
    return {name: each for pattern, of in _RANGES.items() if fnmatchcase(target, pattern) for name, each in of.items()}
