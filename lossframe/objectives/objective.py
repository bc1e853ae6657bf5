"""Computes named losses of one frame, and combines them into a total."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from lossframe import distributed
from lossframe.errors import InputError, names
from lossframe.loggers import tags
from lossframe.losses.base.compilation import outside
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.penalty import Penalty
from lossframe.objectives import absence, diagnostics
from lossframe.objectives.gradients import PARAMETERS, Gramian, Place
from lossframe.objectives.progress import Progress
from lossframe.objectives.schedules import schedules
from lossframe.objectives.terms import check_own_state, check_state, check_terms
from lossframe.objectives.weighting import Fixed, Weighting
from lossframe.objectives.weighting.weights import Weights
from lossframe.objectives.wiring import Frame, entries, is_required, samples, wiring
from lossframe.statistics.moments import Moments
from lossframe.statistics.recorder import Recorder
from lossframe.statistics.series import Statistic


class Objective(Recorder):
    """Computes `sum_k weights[k] * losses[k]`, where each loss reads the entries of a frame that its parameters name.

    `weights` default to 1, that of an accuracy to 0, which leaves a term out. `inputs[term][parameter]` names the entry
    to read instead of the one named like the parameter; `inputs[term]["weight"]` names an entry with weights, such as
    one per sample. `schedule[term]` makes a weight follow the progress of training, see `schedules.KINDS`. A term in
    `optional` is left out of a batch that lacks what it reads, on all ranks; a rank alone takes part without a sample.
    `weighting` creates a `Weighting` from the weights, which combines the terms into the total (default: `Fixed`); one
    that balances gradients does so at `balance_at`: "parameters", an entry of the frame or a list of entries, see
    `Place`.

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

    weights: Weights
    """Current weight of each term, which can be set, as in `weights["center"] = 0.1`."""
    shows_gradients = False
    """Whether the next call in training records the norms and cosines of the terms' gradients."""
    gramian: Gramian | None = None
    """Inner products of the gradients of the weighted terms in the last call that recorded them."""

    def __init__(
        self,
        losses: Mapping[str, Loss],
        weights: Mapping[str, float] | None = None,
        inputs: Mapping[str, Mapping[str, str | None]] | None = None,
        weighting: Callable[[Mapping[str, float]], Weighting] | None = None,
        schedule: Mapping[str, Any] | None = None,
        optional: Sequence[str] = (),
        balance_at: str | Sequence[str] = PARAMETERS,
    ) -> None:
        super().__init__({})
        weights = {} if weights is None else weights
        inputs = {} if inputs is None else inputs
        check_terms(losses, weights, inputs, optional)
        self.losses = nn.ModuleDict(dict(losses))
        self.inputs = {name: wiring(name, loss, inputs.get(name)) for name, loss in losses.items()}
        self.optional = frozenset(optional)
        self.weights = Weights({name: weights.get(name, loss.default_weight) for name, loss in losses.items()})
        self._configured = dict(self.weights)
        self.schedules = schedules(schedule, losses)
        self.weights.update({name: each.at(0.0) for name, each in self.schedules.items()})
        self.progress = Progress()
        self.weighting = (weighting or Fixed)(self.weights)
        self.place = Place(balance_at)

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
        """Choose the model whose parameters the penalties penalise, and at which gradients are balanced."""
        self.place.bind(model)
        for _, loss in self.named_losses():
            if isinstance(loss, Penalty):
                loss.bind(model)

    def advance(self, steps: float | None = None, epochs: float | None = None) -> None:
        """Tell how many optimiser steps and epochs, with fractions, training has done; before each of its steps.

        The objective counts samples itself. Schedules set their weights here; an evaluation uses the last ones.
        """
        self.progress.steps, self.progress.epochs = steps, epochs
        for name, schedule in self.schedules.items():
            self.weights[name] = schedule.now(self.progress)

    def check_state(self, state: Mapping[str, Any], prefix: str = "") -> None:
        """Raise an `InputError` unless a `state_dict`, whose keys begin with a prefix, is one of the same terms."""
        check_state(self.losses, state, prefix)

    def get_extra_state(self) -> dict[str, Any]:
        """Return the configured and the current weights, and the progress, for the `state_dict`."""
        return {"configured": self._configured, "current": dict(self.weights), "progress": asdict(self.progress)}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore progress and current weights of a `state_dict`, except weights that are configured otherwise now."""
        if not state:  # of a checkpoint without weights
            return
        check_own_state(state, "objective")
        self.progress = Progress(**state["progress"])
        for term, weight in state["current"].items():
            if term in state["configured"] and self._configured.get(term) == state["configured"][term]:
                self.weights[term] = weight

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Accept a checkpoint without weights."""
        state_dict.setdefault(f"{prefix}_extra_state", {})
        super()._load_from_state_dict(state_dict, prefix, *args)

    def terms(self, frame: Frame, penalties: bool = True) -> dict[str, Tensor]:
        """Return the weighted value of each term, in order; `penalties=False` leaves penalties on parameters out."""
        values = self._values(frame, penalties)
        return self._weighted(values, self._weights(values))

    def forward(self, frame: Frame) -> Tensor:
        """Return the total of all terms, a scalar."""
        if torch.compiler.is_dynamo_compiling():
            return outside(self, "forward", frame)  # type: ignore[no-any-return]
        values = self._values(frame)
        if self.training:
            self._learn(values, frame)
        weights = self._weights(values)
        weighted = self._weighted(values, weights)
        parts = list(weighted.values())
        if not self.weighting.is_weighted_sum and (terms := self._taking_part(values)):
            parts = [self.weighting.total(terms), *(value for name, value in weighted.items() if name not in terms)]
        parts += self._connections(values, frame)
        total = torch.stack(parts).sum() if parts else torch.zeros(())
        self._record(frame, total, weighted, weights)
        return total

    def shows(self, statistic: Statistic, name: str = "total") -> bool:
        """Return whether a statistic is shown: for the total, if any loss shows it; for other names, only the mean."""
        if name != "total":
            return statistic.option is None
        return any(loss.shows(statistic) for _, loss in self.named_losses())

    def combined(self, named: dict[str, Moments]) -> dict[str, Moments]:
        """Return moments by name, where the mean of the total is the sum of the weighted terms' means."""
        weighted = [moments.mean for name, moments in named.items() if name.startswith(f"{tags.WEIGHTED}/")]
        if not weighted or not self.weighting.is_weighted_sum:
            return named
        mean = sum(weighted)
        of_batches = named.get(tags.TOTAL, Moments(1.0, mean, 0.0, mean, mean))  # a rank without samples has none
        return {**named, tags.TOTAL: replace(of_batches, mean=mean)}

    def counts_values(self, name: str) -> bool:
        """Return False: no value of an objective is counted into a histogram."""
        return False

    def _values(self, frame: Frame, penalties: bool = True) -> dict[str, Tensor]:
        """Return the unweighted value of each term that is there, in order, and 0 for a term of weight 0."""
        values: dict[str, Tensor] = {}
        optional = {name: (loss, self.inputs[name]) for name, loss in self.named_losses() if name in self.optional}
        present = absence.inputs_of(optional, frame)
        for name, loss in self.named_losses():
            if (penalties or not isinstance(loss, Penalty)) and (name not in optional or name in present):
                read = present[name] if name in optional else entries(loss, self.inputs[name], frame)
                value: Tensor = loss(**read)
                values[name] = value if self.weights[name] else absence.absent(value)
        return values

    def _taking_part(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the terms whose weight is not 0."""
        return {name: value for name, value in values.items() if self.weights[name]}

    def _learn(self, values: Mapping[str, Tensor], frame: Frame) -> None:
        """Let the weighting learn from the terms of a training step, and record their gradients if that is due."""
        for name, schedule in self.schedules.items():
            self.progress.of(schedule.unit, f"schedule.{name}")
        if any(schedule.unit == "samples" for schedule in self.schedules.values()):
            here = torch.tensor(samples(frame), dtype=torch.float64, device=distributed.collective_device())
            self.progress.samples += distributed.total(here).item()
        terms, needed = self._taking_part(values), self.weighting.needs_gramian
        shown, self.shows_gradients = self.shows_gradients, False
        gramian = None
        if (needed or shown) and torch.is_grad_enabled() and any(value.requires_grad for value in terms.values()):
            penalties = [name for name, loss in self.named_losses() if isinstance(loss, Penalty)]
            gramian = self.place.gramian(terms, frame, penalties)
        if terms and (gramian or not needed):
            self.weighting.update(terms, gramian.matrix if gramian and needed else None, self.progress)
        if shown and gramian:
            self.gramian = diagnostics.record(self, gramian, self.weighting.weights(terms))

    def _weights(self, values: Mapping[str, Tensor]) -> Mapping[str, Tensor | float]:
        """Return the weight of each term; a weighting has to give one for each that takes part, and for no other."""
        if isinstance(self.weighting, Fixed):
            return self.weights
        terms = self._taking_part(values)
        weights = self.weighting.weights(terms) if terms else {}
        if not terms.keys() <= weights.keys() <= self.losses.keys():
            wanted = f"{type(self.weighting).__name__}.weights: wanted a weight for each of {names(terms)}"
            raise InputError(f"{wanted}, found {names(weights)}; return one for each term of the call")
        return {**dict.fromkeys(values, 0.0), **weights}

    def _weighted(self, values: Mapping[str, Tensor], weights: Mapping[str, Tensor | float]) -> dict[str, Tensor]:
        return {name: weights[name] * value for name, value in values.items()}

    def _connections(self, values: Mapping[str, Tensor], frame: Frame) -> list[Tensor]:
        """Return zeros that reach the parameters behind optional terms that are not there."""
        absent = [absence.connected(frame, self.inputs[name].values()) for name in self.optional - values.keys()]
        return [zero for zero in absent if zero is not None]

    def _record(
        self, frame: Frame, total: Tensor, weighted: Mapping[str, Tensor], weights: Mapping[str, Tensor | float]
    ) -> None:
        """Record every weighted term, every weight that is not fixed, and the total by this rank's samples."""
        replicated, fixed = distributed.world_size() > 1, isinstance(self.weighting, Fixed)
        for name, value in weighted.items():
            self.accumulate(f"{tags.WEIGHTED}/{name}", value, cast(Loss, self.losses[name]).denominator, replicated)
            if not fixed:
                weight = torch.as_tensor(weights[name]).detach().clone()
                self.accumulate(f"{tags.WEIGHT}/{name}", weight, replicated=replicated)
        self.accumulate(tags.TOTAL, total.detach().clone(), samples(frame))  # the caller may change it
