"""Computes named losses of one frame, and combines them into a total."""

from collections.abc import Callable, Iterator, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from lossframe import distributed
from lossframe.losses.base.compilation import outside
from lossframe.losses.base.inputs import leaves
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.penalty import Penalty
from lossframe.objectives.weighting import Fixed, Weighting
from lossframe.objectives.wiring import Frame, check_terms, entries, wiring
from lossframe.statistics.recorder import Recorder
from lossframe.statistics.series import Statistic


class Objective(Recorder):
    """Computes `sum_k weights[k] * losses[k]`, where each loss reads the entries of a frame that its parameters name.

    `weights` default to 1, that of an accuracy to 0. `inputs[term][parameter]` names the entry to read instead of the
    one named like the parameter; `inputs[term]["weight"]` names an entry with weights, such as one per sample.
    `weighting` creates a `Weighting` from the weights, which combines the terms into the total (default: `Fixed`).
    A call records one value each of `total`, every weighted term, and every weight that is not fixed.

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
        weights, inputs = weights or {}, inputs or {}
        check_terms(losses, weights, inputs)
        self.losses = nn.ModuleDict(dict(losses))
        self.inputs = {name: wiring(name, loss, inputs.get(name) or {}) for name, loss in losses.items()}
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
            if parameter not in loss.optional
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
        self._record(total, weighted, weights)
        return total

    def shows(self, statistic: Statistic, name: str = "total") -> bool:
        """Return whether a statistic is shown: for the total, if any loss shows it; for other names, only the mean."""
        if name != "total":
            return statistic.option is None
        return any(loss.shows(statistic) for _, loss in self.named_losses())

    def counts_values(self, name: str) -> bool:
        """Return False: no value of an objective is counted into a histogram."""
        return False

    def _values(self, frame: Frame, penalties: bool = True) -> dict[str, Tensor]:
        """Return the unweighted value of each term, in order, and 0 for a term with the fixed weight 0."""
        values: dict[str, Tensor] = {}
        for name, loss in self.named_losses():
            if penalties or not isinstance(loss, Penalty):
                read = entries(loss, self.inputs[name], frame)
                value: Tensor = loss(**read)
                left_out = isinstance(self.weighting, Fixed) and not self.weighting.current[name]
                values[name] = _zero_like(value, [*leaves(read.values()), *loss.parameters()]) if left_out else value
        return values

    def _weighted(self, values: Mapping[str, Tensor], weights: Mapping[str, Tensor | float]) -> dict[str, Tensor]:
        return {name: weights[name] * value for name, value in values.items()}

    def _record(self, total: Tensor, weighted: Mapping[str, Tensor], weights: Mapping[str, Tensor | float]) -> None:
        """Record one value each of the total, every weighted term, and every weight that is not fixed."""
        replicated = distributed.world_size() > 1
        for name, value in weighted.items():
            self.accumulate(f"weighted/{name}", value, replicated=replicated)
            if not isinstance(self.weighting, Fixed):
                weight = torch.as_tensor(weights[name]).detach().clone()
                self.accumulate(f"weight/{name}", weight, replicated=replicated)
        self.accumulate("total", total.detach().clone(), replicated=replicated)  # the caller may change it


def _zero_like(value: Tensor, reached: list[Tensor]) -> Tensor:
    """Return a zero with a gradient of 0 for a term of weight 0, even if its value or its derivative is NaN.

    The zero stays connected to the tensors in `reached`, because data parallelism refuses parameters that have no
    gradient.
    """
    if not value.requires_grad:
        return torch.zeros_like(value)
    empty = [tensor.reshape(-1)[:0].sum().to(value.dtype) for tensor in reached if tensor.requires_grad]
    return torch.stack([torch.zeros_like(value), *empty]).sum()
