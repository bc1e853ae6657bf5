"""A weighted sum of named losses on one frame."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from lossframe import distributed
from lossframe.errors import InputError, names, nearest
from lossframe.losses.base.compilation import outside
from lossframe.losses.base.inputs import leaves
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.penalty import Penalty
from lossframe.statistics.accumulator import Memory
from lossframe.statistics.moments import Moments

Frame = Mapping[str, Any]
"""The batch and what the model made of it: name -> tensor."""


class Objective(nn.Module):
    """`sum_k weights[k] * losses[k]`, each loss reading the frame's entries that its parameters name.

    `weights` default to 1, that of an accuracy to 0. `inputs[term][parameter]` renames: the frame's entry to read
    instead of the one named like the parameter; `inputs[term]["weight"]` names an entry with per-sample weights. It
    remembers the `total` and every weighted term, one value a call.

    Coming from tf.contrib.losses `get_total_loss`: `objective(frame)`; nothing registers itself.
    Coming from tf.contrib.losses `get_losses`: `objective.terms(frame)`, by name.
    Coming from tf.contrib.losses `get_regularization_losses`: the terms that `penalties=False` leaves out.

    >>> from lossframe.losses import HuberLoss, MSELoss
    >>> objective = Objective({"mse": MSELoss(), "huber": HuberLoss()}, weights={"huber": 0.1})
    >>> frame = {"prediction": torch.tensor([1.0, 2.0]), "target": torch.tensor([0.0, 0.0])}
    >>> objective(frame)
    tensor(2.6000)
    """

    def __init__(
        self,
        losses: Mapping[str, Loss],
        weights: Mapping[str, float] | None = None,
        inputs: Mapping[str, Mapping[str, str | None]] | None = None,
    ) -> None:
        super().__init__()
        weights, inputs = weights or {}, inputs or {}
        _check_terms(losses, weights, inputs)
        self.losses = nn.ModuleDict(dict(losses))
        self.weights = {name: float(weights.get(name, loss.default_weight)) for name, loss in losses.items()}
        self.inputs = {name: _wiring(name, loss, inputs.get(name) or {}) for name, loss in losses.items()}
        self.memory = Memory()

    @property
    def reads(self) -> frozenset[str]:
        """The entries of the frame that the losses need."""
        return frozenset(
            entry
            for name, loss in self.named_losses()
            for parameter, entry in self.inputs[name].items()
            if parameter not in loss.optional
        )

    def named_losses(self) -> Iterator[tuple[str, Loss]]:
        """Yield every term's name and loss, in order."""
        for name, loss in self.losses.items():
            yield name, cast(Loss, loss)

    def bind(self, model: nn.Module) -> None:
        """Give the penalties the model whose parameters they penalise."""
        for _, loss in self.named_losses():
            if isinstance(loss, Penalty):
                loss.bind(model)

    def terms(self, frame: Frame, penalties: bool = True) -> dict[str, Tensor]:
        """Return the weighted value of each term, in order; `penalties=False` leaves out those on parameters."""
        return {
            name: self._weighted(name, loss, self._inputs(name, loss, frame))
            for name, loss in self.named_losses()
            if penalties or not isinstance(loss, Penalty)
        }

    def _weighted(self, name: str, loss: Loss, inputs: dict[str, Any]) -> Tensor:
        """Return the weighted value of a term; of weight 0 exactly 0, with a gradient of 0, whatever its value is."""
        value: Tensor = loss(**inputs)
        if self.weights[name]:
            return self.weights[name] * value
        if not value.requires_grad:
            return torch.zeros_like(value)
        # a head that only this term reads still takes part in backward, as data parallelism wants
        reached = [t for t in (*leaves(inputs.values()), *loss.parameters()) if t.requires_grad]
        return torch.stack([torch.zeros_like(value), *(t.reshape(-1)[:0].sum().to(value.dtype) for t in reached)]).sum()

    def forward(self, frame: Frame) -> Tensor:
        """Return the weighted sum of all terms, a scalar."""
        if torch.compiler.is_dynamo_compiling():
            return outside(self, "forward", frame)  # type: ignore[no-any-return]
        terms = self.terms(frame)
        total = torch.stack(list(terms.values())).sum()
        replicated = distributed.world_size() > 1
        for name, value in terms.items():
            self.memory.push(f"weighted/{name}", value, replicated=replicated)
        self.memory.push("total", total.detach().clone(), replicated=replicated)  # the caller may change its own
        return total

    def series(self, tag: str, moments: Moments) -> dict[str, float]:
        """Return the curves to show for the total: what any of its losses asks for."""
        shown = {tag: moments.mean}
        for _, loss in self.named_losses():
            shown |= loss.series(tag, moments)
        return shown

    def _inputs(self, name: str, loss: Loss, frame: Frame) -> dict[str, Any]:
        wiring = self.inputs[name]
        missing = [
            parameter for parameter, entry in wiring.items() if entry not in frame and parameter not in loss.optional
        ]
        if missing:
            wanted = ", ".join(_describe(parameter, wiring[parameter]) for parameter in missing)
            raise InputError(f"{type(loss).__name__} reads {wanted}, but the frame holds only {names(sorted(frame))}")
        return {parameter: frame[entry] for parameter, entry in wiring.items() if entry in frame}


def _describe(parameter: str, entry: str) -> str:
    return repr(entry) if parameter == entry else f"{entry!r} (as {parameter!r})"


def _wiring(name: str, loss: Loss, renamed: Mapping[str, str | None]) -> dict[str, str]:
    known = [*loss.reads, "weight"]
    for parameter in renamed:
        if parameter not in known:
            raise InputError(
                f"inputs.{name}.{parameter}: {type(loss).__name__} reads {names(known)}.{nearest(parameter, known)}"
            )
    return {name: name for name in loss.reads} | {p: entry for p, entry in renamed.items() if entry is not None}


def _check_terms(losses: Mapping[str, Loss], weights: Mapping[str, float], inputs: Mapping[str, Any]) -> None:
    if not losses:
        raise InputError("an Objective wants at least one loss, found none; choose one, as in loss=triplet")
    for given, what in ((weights, "weights"), (inputs, "inputs")):
        for name in given:
            if name not in losses:
                raise InputError(f"{what}.{name}: the terms are {names(losses)}.{nearest(name, losses)}")
    for name, loss in losses.items():
        if "." in name or not name or hasattr(nn.ModuleDict, name):
            raise InputError(f"a term cannot be called {name!r}: choose a name without dots that no module has already")
        if not isinstance(loss, Loss):
            raise InputError(f"term {name!r} is a {type(loss).__name__}; wanted a Loss: wrap it in NativeLoss(...)")
        if loss.reduction == "none":
            raise InputError(f"term {name!r} has reduction='none'; an Objective adds scalars: choose another")
    for name, weight in weights.items():
        if not isinstance(weight, int | float) or not math.isfinite(weight):
            raise InputError(f"weights.{name}={weight}: wanted a finite number")
