"""Computes named losses of one frame, and combines them into a total."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from lossframe import distributed
from lossframe.errors import InputError, names
from lossframe.loggers.tags import TOTAL, WEIGHT, WEIGHTED
from lossframe.losses.base.compilation import outside
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.penalty import Penalty
from lossframe.objectives.terms import check_state, check_terms
from lossframe.objectives.weighting import Fixed, Weighting
from lossframe.objectives.wiring import Frame, entries, is_required, samples, wiring
from lossframe.statistics.moments import Moments
from lossframe.statistics.recorder import Recorder
from lossframe.statistics.series import Statistic


class Objective(Recorder):
    """Computes `sum_k weights[k] * losses[k]`, where each loss reads the entries of a frame that its parameters name.

    `weights` default to 1, that of an accuracy to 0. `inputs[term][parameter]` names the entry to read instead of the
    one named like the parameter; `inputs[term]["weight"]` names an entry with weights, such as one per sample.
    `weighting` creates a `Weighting` from the weights, which combines the terms into the total (default: `Fixed`).
    A call records `total`, each `weighted/TERM`, and each weight that is not fixed. The mean of `weighted/TERM` counts
    each call by the number of values that its reduction averages (1 for "sum"), so that it is the weight times the mean
    of the term over a window or an evaluation. The mean of `total` is the sum of these means; of a weighting that gives
    no weighted sum it is the mean over batches, by their samples. Std, min and max of `total` are those of its batches.

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
        weighting: Callable[[Mapping[str, float]], Weighting] | None = None,
    ) -> None:
        super().__init__({})
        weights = {} if weights is None else weights
        inputs = {} if inputs is None else inputs
        check_terms(losses, weights, inputs)
        self.losses = nn.ModuleDict(dict(losses))
        self.inputs = {name: wiring(name, loss, inputs.get(name)) for name, loss in losses.items()}
        fixed = Fixed({name: weights.get(name, loss.default_weight) for name, loss in losses.items()})
        self.weighting = fixed if weighting is None else weighting(dict(fixed.current))

    @property
    def weights(self) -> Mapping[str, float]:
        """Current weight of each term. Those of `Fixed` can be set, as in `weights["center"] = 0.1`."""
        return self.weighting.current if isinstance(self.weighting, Fixed) else self.weighting.configured

    @property
    def reads(self) -> frozenset[str]:
        """The entries of the frame that the losses need."""
        return frozenset(
            entry
            for name, loss in self.named_losses()
            for parameter, entry in self.inputs[name].items()
            if is_required(loss, parameter, entry)
        )

    def named_losses(self) -> Iterator[tuple[str, Loss]]:
        """Yield name and loss of every term, in order."""
        for name, loss in self.losses.items():
            yield name, cast(Loss, loss)

    def bind(self, model: nn.Module) -> None:
        """Choose the model whose parameters the penalties penalise."""
        for _, loss in self.named_losses():
            if isinstance(loss, Penalty):
                loss.bind(model)

    def check_state(self, state: Mapping[str, Any], prefix: str = "") -> None:
        """Raise an `InputError` unless a `state_dict`, whose keys begin with a prefix, is one of the same terms."""
        check_state(self.losses, state, prefix)

    def terms(self, frame: Frame, penalties: bool = True) -> dict[str, Tensor]:
        """Return the weighted value of each term, in order; `penalties=False` leaves penalties on parameters out."""
        values = self._values(frame, penalties)
        return self._weighted(values, self.weighting.weights(values))

    def forward(self, frame: Frame) -> Tensor:
        """Return the total of all terms, a scalar."""
        if torch.compiler.is_dynamo_compiling():
            return outside(self, "forward", frame)  # type: ignore[no-any-return]
        values = self._values(frame)
        weights = self.weighting.weights(values)
        weighted = self._weighted(values, weights)
        total = torch.stack(list(weighted.values())).sum() if self.weighting.is_weighted_sum else None
        if total is None:
            total = self.weighting.total(values)
        self._record(frame, total, weighted, weights)
        return total

    def shows(self, statistic: Statistic, name: str = "total") -> bool:
        """Return whether a statistic is shown: for the total, if any loss shows it; for other names, only the mean."""
        if name != "total":
            return statistic.option is None
        return any(loss.shows(statistic) for _, loss in self.named_losses())

    def combined(self, named: dict[str, Moments]) -> dict[str, Moments]:
        """Return moments by name, where the mean of the total is the sum of the weighted terms' means."""
        weighted = [moments.mean for name, moments in named.items() if name.startswith(f"{WEIGHTED}/")]
        if not weighted or not self.weighting.is_weighted_sum:
            return named
        mean = sum(weighted)
        of_batches = named.get(TOTAL, Moments(1.0, mean, 0.0, mean, mean))  # a rank without samples has none
        return {**named, TOTAL: replace(of_batches, mean=mean)}

    def counts_values(self, name: str) -> bool:
        """Return False: no value of an objective is counted into a histogram."""
        return False

    def _values(self, frame: Frame, penalties: bool = True) -> dict[str, Tensor]:
        """Return the unweighted value of each term, in order, and 0 for a term with the fixed weight 0."""
        values: dict[str, Tensor] = {}
        for name, loss in self.named_losses():
            if penalties or not isinstance(loss, Penalty):
                value: Tensor = loss(**entries(loss, self.inputs[name], frame))
                left_out = isinstance(self.weighting, Fixed) and not self.weighting.current[name]
                values[name] = _absent(value) if left_out else value
        return values

    def _weighted(self, values: Mapping[str, Tensor], weights: Mapping[str, Tensor | float]) -> dict[str, Tensor]:
        """Multiply each term by its weight; a weighting has to give one for each term, and for nothing else."""
        fixed = isinstance(self.weighting, Fixed)
        if not fixed and not values.keys() <= weights.keys() <= self.losses.keys():
            wanted = f"{type(self.weighting).__name__}.weights: wanted a weight for each of {names(values)}"
            raise InputError(f"{wanted}, found {names(weights)}; return one for each term of the call")
        return {name: weights[name] * value for name, value in values.items()}

    def _record(
        self, frame: Frame, total: Tensor, weighted: Mapping[str, Tensor], weights: Mapping[str, Tensor | float]
    ) -> None:
        """Record every weighted term, every weight that is not fixed, and the total by this rank's samples."""
        replicated, fixed = distributed.world_size() > 1, isinstance(self.weighting, Fixed)
        for name, loss in self.named_losses():
            self.accumulate(f"{WEIGHTED}/{name}", weighted[name], loss.denominator, replicated)
            if not fixed:
                weight = torch.as_tensor(weights[name]).detach().clone()
                self.accumulate(f"{WEIGHT}/{name}", weight, replicated=replicated)
        self.accumulate(TOTAL, total.detach().clone(), samples(frame))  # the caller may change it


def _absent(value: Tensor) -> Tensor:
    """Return a zero in place of a term's value, with a gradient of exactly 0 for every parameter that it depends on.

    Data parallelism refuses parameters without a gradient. The zero is connected to the parameters themselves: on the
    way through the model a gradient of 0 becomes NaN where a derivative is not finite.
    """
    if not value.requires_grad:
        return torch.zeros_like(value)
    empty = [leaf.reshape(-1)[:0].sum().to(value.dtype) for leaf in _graph_leaves(value)]
    return torch.stack([torch.zeros_like(value), *empty]).sum()


def _graph_leaves(value: Tensor) -> list[Tensor]:
    """Return the leaf tensors that a value depends on with gradient."""
    leaves: dict[int, Tensor] = {}
    nodes, seen = [value.grad_fn], {value.grad_fn}
    while nodes:
        node: Any = nodes.pop()
        if (leaf := getattr(node, "variable", None)) is not None:
            leaves[id(leaf)] = leaf
        following = {other for other, _ in getattr(node, "next_functions", ()) if other is not None} - seen
        seen |= following
        nodes += following
    return list(leaves.values()) if value.grad_fn is not None else [value]
