"""Base class of losses that wrap a loss: evaluates the wrapped formula, and records its values as its own."""

from abc import abstractmethod
from typing import Any, Unpack

from torch import Tensor

from lossframe.errors import InputError
from lossframe.losses.base import annotations
from lossframe.losses.base.inputs import Batch
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.options import LossOptions
from lossframe.losses.base.penalty import Penalty
from lossframe.losses.base.wanted import loss_remedy
from lossframe.statistics import series

_TRAITS = (
    "class_inputs", "core_dims", "default_weight", "invalid_gives_nonfinite", "optional", "per_sample", "relational",
    "synonyms",
)  # fmt: skip


class Wrapper(Loss):
    """Abstract base of wrappers: delegates checks, counts, formula and updates to the wrapped loss.

    The options of the wrapped loss, such as its reduction, hold for the wrapper unless it gets its own. The wrapper
    records what the wrapped formula logs. A subclass changes the inputs, the weight or the values.
    """

    weight: Tensor | float | None = None
    """Weight of the current call, before ranks gather it; 0 where a value does not count."""

    def __init__(self, loss: Loss, **options: Unpack[LossOptions]) -> None:
        if not isinstance(loss, Loss):
            raise InputError(f"{type(self).__name__}: loss {loss_remedy(loss)}")
        if isinstance(loss, Penalty):
            raise InputError(f"{type(self).__name__}: wanted a loss that reads inputs, found a {type(loss).__name__}")
        super().__init__(**{**_options(loss), **options})
        self.wrapped = loss
        loss.__dict__["owner"] = self  # not a submodule, which would be a cycle
        for trait in _TRAITS:
            setattr(self, trait, getattr(loss, trait))
        self.reads = loss.reads

    def prepared(self, batch: Batch) -> Batch:
        """Return a batch with the inputs of the wrapped formula, before ranks gather them."""
        return self.wrapped.prepared(batch) if isinstance(self.wrapped, Wrapper) else batch

    def check(self, *args: Any, **inputs: Any) -> None:
        """Require what the wrapped loss requires."""
        annotations.check(self.wrapped, inputs)
        self.wrapped.check(**inputs)

    def check_values(self, *args: Any, **inputs: Any) -> None:
        """Require what the wrapped loss requires of the values."""
        self.wrapped.check_values(**inputs)

    def counts(self, *args: Any, **inputs: Any) -> Tensor | None:
        """Return the counts of the wrapped loss."""
        return self.wrapped.counts(**inputs)

    def carried_weight(self, *args: Any, **inputs: Any) -> Tensor | None:
        """Return the weight that the values of the wrapped loss contain."""
        return self.wrapped.carried_weight(**inputs)

    @abstractmethod
    def loss(self, *args: Any, **inputs: Any) -> Tensor:
        """Return the values of the wrapped loss."""
        return self.wrapped.loss(*args, **inputs)

    def update(self, *args: Any, **inputs: Any) -> None:
        """Update the state of the wrapped loss."""
        self.wrapped.update(**inputs)

    def _evaluate(self, batch: Batch) -> Tensor:
        batch = self.prepared(batch)
        self.__dict__["weight"] = batch.weight
        try:
            return super()._evaluate(batch)
        finally:
            self.__dict__["weight"] = None

    def _samples(self, values: Tensor, batch: Batch) -> Tensor | float:
        return self.wrapped._samples(values, batch)


def _options(loss: Loss) -> dict[str, Any]:
    """Return the options that a loss was made with."""
    flags = {name: getattr(loss, name) for name in series.options()}
    return {"reduction": loss.reduction, "record": loss.record, "compile": loss._compiled is not None, **flags}
