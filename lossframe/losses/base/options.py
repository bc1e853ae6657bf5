"""Options that every loss accepts in addition to the parameters of its formula."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypedDict, get_type_hints

from lossframe.errors import InputError, names, nearest
from lossframe.losses.base.reduction import Reduction
from lossframe.statistics import series


class LossOptions(TypedDict, total=False):
    """Options that every loss accepts in addition to the parameters of its formula.

    `reduction`: "mean" (default), "sum", "none", "weighted_mean", "batch_mean" or "element_mean", see
    `lossframe.losses.base.reduction.reduce`.
    `log_std`, `log_min`, `log_max`: whether `summary` and `LossMonitor` show these with the mean (default False).
    `log_quantiles`: whether to count the values into a histogram, and show p5, p50, p95 and p99 (default False).
    `record`: whether to record values at all (default True).
    `compile`: whether `torch.compile` computes the values (default False), which needs a C++ compiler on a CPU.
    A step that is compiled as a whole calls its losses outside its graph; this option compiles their formulas too.
    """

    reduction: Reduction
    log_std: bool
    log_min: bool
    log_max: bool
    log_quantiles: bool
    record: bool
    compile: bool


def known_options() -> list[str]:
    """Return the names of all options, including those that select statistics."""
    return list(dict.fromkeys([*get_type_hints(LossOptions), *series.options()]))


def check_options(loss: type, given: Iterable[str]) -> None:
    """Raise an `InputError` that names the class and the nearest option if an option is unknown."""
    for name in given:
        if name not in (options := known_options()):
            known = [*positional_parameters(loss.__init__), *options]  # type: ignore[misc]
            raise InputError(f"{loss.__name__} has no option {name!r}; it has {names(known)}.{nearest(name, known)}")


def positional_parameters(function: Callable[..., Any]) -> list[str]:
    """Return the names of the parameters that can be passed by position, without `self`."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in inspect.signature(function).parameters.values() if p.kind in kinds and p.name != "self"]


def is_plain(value: Any) -> bool:
    """Return whether a value is a number, a string or a bool, which fits into one line of `extra_repr`."""
    return isinstance(value, int | float | str | bool)
