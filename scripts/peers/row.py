"""One row of the table of other libraries' losses."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossframe import Loss, losses
from lossframe.losses import catalogue
from lossframe.losses.base.options import positional_parameters

Inputs = dict[str, Tensor]
NAMES = {
    "sum_over_batch_size": "element_mean",
    "SUM_BY_NONZERO_WEIGHTS": "mean",
    "mean": "mean",
    "mean, ignored too": "element_mean",
    "weighted mean": "weighted_mean",
    "sum": "sum",
    "none": "none",
}
"""What other libraries call their reductions -> the reduction here that gives their number."""


def _unchanged(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class Row:
    """A loss of another library: `values` computes its unreduced values, with its own defaults as keywords.

    `there` is the call, `here` the call of the loss that stands for it, without its reduction. `gives` is the value
    there, in terms of the value `here` and of sizes. `rtol` is above 1e-9 where an epsilon differs. `before` is what is
    done to the first input here, and by the loss itself there.
    """

    library: str
    there: str
    here: str
    values: Callable[..., Tensor]
    inputs: Callable[[], Inputs]
    reduction: str = "mean"
    gives: str = "here"
    note: str = ""
    rtol: float = 1e-9
    before: Callable[[Tensor], Tensor] = _unchanged

    @property
    def function(self) -> str:
        """The name of the function or class."""
        return self.there.partition("(")[0]

    @property
    def call(self) -> str:
        """The call that makes the loss here, with its reduction."""
        reduction = NAMES[self.reduction]
        if reduction == "mean":
            return self.here
        comma = "" if self.here.endswith("()") else ", "
        return f'{self.here[:-1]}{comma}reduction="{reduction}")'

    def make(self) -> Loss:
        """Build the loss here."""
        return eval(self.call, vars(losses))  # type: ignore[no-any-return]

    @property
    def defaults_there(self) -> dict[str, Any]:
        """The defaults of the other library."""
        parameters = inspect.signature(self.values).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not p.empty}

    @property
    def defaults_here(self) -> dict[str, Any]:
        """The defaults of the loss here."""
        init = type(self.make()).__init__
        defaults = {name: inspect.signature(init).parameters[name].default for name in positional_parameters(init)}
        return {name: default for name, default in defaults.items() if default is not inspect.Parameter.empty}

    @property
    def difference(self) -> str:
        """What differs apart from names, factor, defaults and reduction: of the docstring, if one speaks of it."""
        origins = catalogue.origins(type(self.make()))
        said = [o.difference for o in origins if (o.library, o.function) == (self.library, self.function)]
        return said[0] if said else self.note


def reduced(values: Tensor, reduction: str, weight: Tensor | None = None) -> Tensor:
    """Reduce values as another library does; `weight` is one weight per sample."""
    w = torch.ones_like(values)
    if weight is not None:
        w = weight.reshape(-1, *[1] * (values.ndim - 1)).expand_as(values)
    if reduction == "none":
        return w * values
    numerator = (w * values).sum()
    denominators = {
        "SUM_BY_NONZERO_WEIGHTS": (w != 0).sum(),
        "weighted mean": w.sum(),
        "sum": torch.ones(()),
    }
    return numerator / denominators.get(reduction, torch.tensor(values.numel()))


def normal(*shape: int) -> Tensor:
    """Return random numbers of both signs."""
    return torch.randn(*shape, dtype=torch.float64)


def uniform(*shape: int) -> Tensor:
    """Return random numbers within [0.05, 0.95]."""
    return 0.05 + 0.9 * torch.rand(*shape, dtype=torch.float64)


def bits(*shape: int) -> Tensor:
    """Return zeros and ones."""
    return torch.randint(0, 2, shape).double()
