"""The contract of a loss: a formula gives values, and the base class weighs, reduces and records them."""

import inspect
import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from lossframe import distributed
from lossframe.errors import InputError
from lossframe.losses.base import checks, inputs, masking, per_sample, reduction
from lossframe.losses.base.compilation import Compiled, outside
from lossframe.losses.base.inputs import Batch
from lossframe.losses.base.options import LossOptions, check_options, is_plain, positional_parameters
from lossframe.losses.base.per_sample import PerSample
from lossframe.losses.base.state import WideState
from lossframe.statistics.recorder import Recorder

CAREFUL_CALLS = 3
"""How many calls on a GPU also check values, for which the host waits."""


class Loss(WideState, Recorder, ABC):
    """Abstract base: subclasses write `loss(...)`, which returns unreduced values; the base does the rest.

    The names of `loss`'s parameters are the entries that it reads. Calling the loss checks them, evaluates the
    values in float32 or better, weighs and reduces them, and records them, with the same value and gradient on
    1 or N ranks. An `InputError` names the class, what was wanted and what was found.

    Concrete losses are final: to change one, wrap it.

    Coming from babilim `Loss`: the same, but each flag, as `log_max`, is its own in every subclass.
    """

    reads: ClassVar[tuple[str, ...]] = ()
    optional: ClassVar[frozenset[str]] = frozenset()
    relational: bool = False
    """Whether a value depends on other samples of the batch: then ranks gather their inputs first."""
    core_dims: tuple[int, ...] | None = None
    """The dims of every floating input that one value reads as a whole; the other dims are those of the values.

    `()` is elementwise; `(1,)` has classes on dim 1. A left-out value's entries then get a gradient of exactly 0 and
    may hold NaN. None (the default) promises nothing: only NaN in samples none of whose values count is kept out.
    """
    per_sample: bool = True
    """Whether the rows of the values of a relational loss are the batch's samples."""
    class_inputs: ClassVar[frozenset[str]] = frozenset()
    """The inputs that name classes: integers of any dtype, or bool for the classes 0 and 1."""
    default_weight: ClassVar[float] = 1.0
    """The weight in an objective that gives none."""
    shows_misfits: ClassVar[bool] = False
    """Whether input that `check_values` refuses makes the result NaN or infinite: values are checked only then."""
    debug: bool = False
    """Whether to check values at every call also where that waits for a GPU."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in cls.__mro__[1:]:
            if issubclass(base, Loss) and base is not Loss and not inspect.isabstract(base):
                raise TypeError(f"{base.__name__} is final: wrap it instead of deriving {cls.__name__} from it")
        if "loss" in cls.__dict__:
            parameters = list(inspect.signature(cls.loss).parameters.values())[1:]
            cls.reads = tuple(parameter.name for parameter in parameters)
            cls.optional = frozenset(p.name for p in parameters if p.default is not p.empty)
            if "weight" in cls.reads:
                raise TypeError(f"{cls.__name__}.loss must not read 'weight': the base class applies weights")

    def __init__(self, **options: Unpack[LossOptions]) -> None:
        check_options(type(self), options)
        super().__init__(options)
        self.reduction = reduction.check_reduction(options.get("reduction", "mean"))
        self.record = options.get("record", True)
        self.samples: PerSample | None = None
        self._compiled = Compiled() if options.get("compile", False) else None
        self._calls = 0
        self._in_formula = False

    @abstractmethod
    def loss(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return unreduced values, one per thing penalised: a pure function of tensors."""

    def check(self, *args: Any, **inputs: Any) -> None:
        """Raise an `InputError` unless shapes and dtypes fit; costs no synchronisation.

        By default it refuses two floating inputs that would only be broadcast, as `[n]` and `[n, 1]`.
        """
        checks.not_broadcast(**inputs)

    def check_values(self, *args: Any, **inputs: Any) -> None:
        """Raise an `InputError` unless the values fit; called on a CPU, and at the first calls on a GPU."""

    def counts(self, *args: Any, **inputs: Any) -> Tensor | None:
        """Return how many elementary penalties each value stands for; 0 leaves a value out (default: 1 each)."""

    def carried_weight(self, *args: Any, **inputs: Any) -> Tensor | None:
        """Return the weight that each value carries already; "weighted_mean" divides by it too (default: 1 each)."""

    def update(self, *args: Any, **inputs: Any) -> None:
        """Update the loss's own state from the whole batch; called after `loss`, in training mode only."""

    def forward(self, *args: Any, weight: Any = None, **kwargs: Any) -> Tensor:
        """Return the reduced loss of the whole batch of all ranks, and record its values."""
        if torch.compiler.is_dynamo_compiling():
            return outside(self, "forward", *args, weight=weight, **kwargs)  # type: ignore[no-any-return]
        try:
            batch = inputs.received(self, args, kwargs, weight)
            if not torch.is_autocast_enabled(batch.device):
                return self._evaluate(batch)
            with torch.autocast(batch.device, enabled=False):
                return self._evaluate(batch)
        except InputError as error:
            prefix = f"{type(self).__name__}: "
            message = str(error)
            raise type(error)(message if message.startswith(prefix[:-2]) else prefix + message) from None

    def log(self, name: str, value: Tensor | float) -> None:
        """Record any value, of any shape, under a name of its own."""
        if not self.record:
            return
        if not torch.compiler.is_dynamo_compiling():
            value = torch.as_tensor(value).detach().clone()  # a parameter goes on changing
            self.accumulate(name, value, replicated=self._in_formula and self._is_replicated())
        elif self._compiled is None or not self._compiled.running:
            outside(self, "log", name, value)
        else:
            self._compiled.logged.append((name, value.detach() if isinstance(value, Tensor) else value))

    def extra_repr(self) -> str:
        """Show the constructor's arguments that are kept under their own names."""
        shown = [*positional_parameters(type(self).__init__), "reduction"]
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in shown if is_plain(getattr(self, name, None)))

    def _evaluate(self, batch: Batch) -> Tensor:
        """Check, evaluate, weigh, reduce and record one batch."""
        readable = self._may_read_values(batch)
        if self.relational:
            batch = inputs.of_all_ranks(batch, self.samples)
        self.check(**batch.inputs)
        batch = inputs.without_left_out(batch) if self.relational else batch
        batch.counts = self.counts(**batch.inputs)
        if readable and not self.shows_misfits:
            self._check_values(batch)
        shield = masking.shield(batch, self.core_dims) if not self.relational else None
        values = self._values(batch.inputs if shield is None else shield.before(batch.inputs))
        if self.training:
            self.update(**batch.inputs)
        weighed = reduction.weighed(values, batch, self.per_sample)
        if shield is not None:
            shield.cover(weighed.mask, values.shape)
        result = self._reduced(weighed, batch)
        if readable and self.shows_misfits and not math.isfinite((result.sum() if result.ndim else result).item()):
            self._check_values(batch)
        self._record(weighed, batch)
        return result

    def _check_values(self, batch: Batch) -> None:
        """Raise an `InputError` unless the values that count fit."""
        try:
            self.check_values(**batch.inputs)
        except InputError:
            if self.relational or not batch.may_leave_out:
                raise
            self.check_values(**masking.filled(batch, self.core_dims))

    def _values(self, inputs_: dict[str, Any]) -> Tensor:
        """Return the formula's values, in memory that nobody else holds."""
        self._in_formula = True
        try:
            values = self._formula(inputs_)
        finally:
            self._in_formula = False
        if not isinstance(values, Tensor):
            raise InputError(f"wanted a tensor of values from loss(...), found {type(values).__name__}")
        state = (*self.parameters(), *self.buffers()) if values.is_leaf or values._is_view() else ()
        # what the caller, the optimiser or `update` changes later must not change what is recorded
        shared = inputs.shares_memory(values, [*inputs.leaves(inputs_.values()), *state])
        return values.clone() if shared else values

    def _formula(self, inputs_: dict[str, Any]) -> Tensor:
        if self._compiled is not None:
            values = self._compiled(self.loss, inputs_)
            for name, value in self._compiled.logged:
                self.log(name, value)
            return values
        if not self._is_replicated():
            return self.loss(**inputs_)
        with distributed.same_inputs():
            return self.loss(**inputs_)

    def _reduced(self, weighed: reduction.Weighed, batch: Batch) -> Tensor:
        """Return the loss; a relational loss's values, and their number, are again those of all samples."""
        if batch.kept is not None and self.per_sample and self.reduction in ("none", "batch_mean"):
            weighed = weighed.restored(batch.kept)
        if self.reduction == "none":
            return weighed.values
        weight = weighed.weight
        if self.reduction == "weighted_mean":
            weight = reduction.product(weight, self.carried_weight(**batch.inputs))
        sharded = not self.relational and distributed.world_size() > 1
        return reduction.over_ranks(weighed.values, weight, self.reduction, weighed.counts, sharded)

    def _record(self, weighed: reduction.Weighed, batch: Batch) -> None:
        """Record the values of a batch, and keep them by sample where somebody asks for that."""
        if not self.record and self.samples is None:
            return
        values = weighed.elementary()
        if self.record:
            alone = values.clone() if self.reduction == "none" else values  # the caller may change what is returned
            self.accumulate("loss", alone, weighed.mask, self._is_replicated())
        if self.samples is not None:
            self.samples.values = per_sample.of_rank(values, weighed.mask, batch, self.per_sample)

    def _is_replicated(self) -> bool:
        """Return whether every rank evaluates the same batch."""
        return self.relational and distributed.world_size() > 1

    def _may_read_values(self, batch: Batch) -> bool:
        """Return whether the host may wait for values: on a CPU, and at the first calls on a GPU."""
        if self.debug or batch.on_cpu:
            return True
        self._calls += 1
        return self._calls <= CAREFUL_CALLS
