"""Base class of all losses: checks inputs, evaluates a formula, and weighs, reduces and records its values."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from lossframe import distributed
from lossframe.errors import InputError
from lossframe.losses.base import checks, inputs, masking, per_sample, reduction, standing, tracing
from lossframe.losses.base.compilation import Compiled, outside
from lossframe.losses.base.inputs import Batch
from lossframe.losses.base.options import LossOptions, check_options, is_plain, positional_parameters
from lossframe.losses.base.per_sample import PerSample
from lossframe.losses.base.recording import recording
from lossframe.losses.base.state import WideState
from lossframe.statistics.accumulator import as_counts, as_recorded, may_be_shared
from lossframe.statistics.recorder import Recorder

CAREFUL_CALLS = 3
"""Number of first calls on a GPU in which the host waits for values to check them."""


class Loss(WideState, Recorder, ABC):
    """Abstract base of losses: weighs, reduces and records the values that a subclass computes in `loss(...)`.

    The parameters of `loss` are named like the entries that it reads. A call checks the inputs, evaluates the formula
    in float32 or better, weighs, reduces and records the values, and gives the same value and gradient on 1 and on N
    ranks. An `InputError` names the class, what was wanted and what was found.

    Concrete losses are final: to change one, wrap it.

    Coming from babilim `Loss`: the same, but each flag, as `log_max`, is its own in every subclass.
    """

    reads: tuple[str, ...] = ()
    optional: frozenset[str] = frozenset()
    relational: bool = False
    """Whether a value depends on other samples of the batch, so that ranks gather their inputs first."""
    core_dims: tuple[int, ...] | None = None
    """Dimensions of every floating input that one value reads as a whole; the other dimensions are those of the values.

    `()` is elementwise; `(1,)` has classes on dim 1. Entries whose value does not count then get a gradient of exactly
    0, and may hold NaN. None (default): only non-finite gradients of samples without a value that counts become 0.
    """
    per_sample: bool = True
    """Whether each row of a relational loss's values belongs to one sample of the batch."""
    class_inputs: frozenset[str] = frozenset()
    """Names of the inputs that hold classes: integers of any dtype, or bool for the classes 0 and 1."""
    default_weight: ClassVar[float] = 1.0
    """Weight of the loss in an objective that configures none."""
    invalid_gives_nonfinite: ClassVar[bool] = False
    """Whether inputs that `check_values` refuses make the result NaN or infinite; other results are not checked."""
    owner: "Loss | None" = None
    """The loss that wraps this one, and records what this one logs."""
    debug: bool = False
    """Whether every call checks values, even where the check waits for a GPU."""

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
        self.denominator: Tensor | float = 0.0
        self.synonyms: Mapping[str, str] = {}  # further names of inputs -> their names in `reads`
        self._numbers: Tensor | None = None
        self._compiled = Compiled() if options.get("compile", False) else None
        self._calls = 0
        self._in_formula = self.warned = False

    @abstractmethod
    def loss(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return unreduced values, one per penalty: a pure function of tensors."""

    def check(self, *args: Any, **inputs: Any) -> None:
        """Raise an `InputError` unless shapes and dtypes fit; must need no synchronisation.

        The default refuses two floating inputs that would broadcast, as `[n]` and `[n, 1]`.
        """
        checks.not_broadcast(**inputs)

    def check_values(self, *args: Any, **inputs: Any) -> None:
        """Raise an `InputError` unless the values fit; called on a CPU, and in the first calls on a GPU."""

    def counts(self, *args: Any, **inputs: Any) -> Tensor | None:
        """Return the number of elementary penalties in each value; 0 excludes a value (default: 1 each)."""

    def carried_weight(self, *args: Any, **inputs: Any) -> Tensor | None:
        """Return the weight that each value contains, by which "weighted_mean" divides too (default: 1 each)."""

    def update(self, *args: Any, **inputs: Any) -> None:
        """Update the state of the loss from the inputs of `loss`; called after `loss`, in training mode only."""

    def forward(self, *args: Any, weight: Any = None, **kwargs: Any) -> Tensor:
        """Return the reduced loss of the batch of all ranks, and record its values.

        Each value stands for `count` values in statistics, and in the mean over ranks. By default that is 1, but a
        single number that a formula returns for a batch stands for the samples of the batch.
        """
        if torch.compiler.is_dynamo_compiling():
            return outside(self, "forward", *args, weight=weight, **kwargs)  # type: ignore[no-any-return]
        try:
            batch = inputs.received(self, args, kwargs, weight)
            if not tracing.is_autocast(batch.device):
                return self._evaluate(batch)
            with torch.autocast(batch.device, enabled=False):
                return self._evaluate(batch)
        except InputError as error:
            prefix = f"{type(self).__name__}: "
            message = str(error)
            raise type(error)(message if message.startswith(prefix[:-2]) else prefix + message) from None

    def log(self, name: str, value: Tensor | float, count: Tensor | float = 1) -> None:
        """Record a value of any shape as a curve in addition to the loss; it stands for `count` values, as a mean."""
        loss = recording(self)
        if not loss.record:
            return
        if name == "loss":
            raise InputError("cannot log a value named 'loss': that is the loss's own; choose another name")
        if not torch.compiler.is_dynamo_compiling():
            replicated = loss._in_formula and loss._is_replicated()
            loss.accumulate(name, as_recorded(value), as_counts(count), replicated)
        elif loss._compiled is None or not loss._compiled.running:
            outside(loss, "log", name, value, count)
        else:
            loss._compiled.logged.append((name, value.detach() if isinstance(value, Tensor) else value, count))

    def averaged_over(self, numbers: Tensor, present: Tensor | None = None) -> None:
        """Tell, in a formula, how many pairs each value sums, `[N]`; anchors outside `present` are not recorded."""
        loss = recording(self)
        if loss._in_formula:
            loss._numbers = standing.balanced(numbers.detach(), numbers > 0 if present is None else present)

    def extra_repr(self) -> str:
        """Return the constructor's arguments that are attributes of the same name."""
        shown = [*positional_parameters(type(self).__init__), "reduction"]
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in shown if is_plain(getattr(self, name, None)))

    def _evaluate(self, batch: Batch) -> Tensor:
        """Check, evaluate, weigh, reduce and record one batch; return the reduced loss."""
        readable = self._may_read_values(batch)
        if self.relational:
            batch = inputs.of_all_ranks(batch, self.samples)
        self.check(**batch.inputs)
        batch = inputs.without_left_out(batch) if self.relational else batch
        batch.counts = self.counts(**batch.inputs)
        if readable and not self.invalid_gives_nonfinite:
            self._check_values(batch)
        shield = masking.shield(batch, self.core_dims) if not self.relational else None
        values = self._values(batch.inputs if shield is None else shield.before(batch.inputs))
        if self.training:
            self.update(**batch.inputs)
        weighed = self._weighed(values, batch)
        if shield is not None:
            shield.cover(weighed.mask, values.shape)
        carried = self.carried_weight(**batch.inputs) if self.reduction == "weighted_mean" else None
        stands = standing.recorded(weighed, self.reduction, carried, self.relational)
        reduced = self._reduced(weighed, carried, batch)
        self.__dict__.update(_numbers=None, denominator=standing.denominator(stands, reduced, self.reduction))
        result = reduced.result.to(values.dtype)
        if readable and self.invalid_gives_nonfinite and not reduction.is_finite(result):
            self._check_values(batch)
        self._record(stands, weighed.mask, batch)
        return result

    def _weighed(self, values: Tensor, batch: Batch) -> reduction.Weighed:
        """Weigh values, in float64 for a mean by weights, so that weights of any scale cancel."""
        exact = values.double() if self.reduction == "weighted_mean" else values
        return reduction.weighed(exact, batch, self.per_sample, self._samples(values, batch), self._numbers)

    def _samples(self, values: Tensor, batch: Batch) -> Tensor | float:
        """Return how many values each value stands for."""
        return standing.samples_of(self, values, batch)

    def _check_values(self, batch: Batch) -> None:
        """Raise an `InputError` unless the entries that count fit."""
        try:
            self.check_values(**batch.inputs)
        except InputError:
            if self.relational or not batch.may_leave_out:
                raise
            self.check_values(**masking.filled(batch, self.core_dims))

    def _values(self, inputs_: dict[str, Any]) -> Tensor:
        """Return the formula's values, copied if they may share memory with the inputs, the state or other tensors."""
        self.__dict__.update(_in_formula=True, _numbers=None)  # nn.Module's own assignment takes microseconds
        try:
            values = self._formula(inputs_)
        finally:
            self.__dict__["_in_formula"] = False
        values = inputs.real_values(values)
        state = (*self.parameters(), *self.buffers()) if values.is_leaf or values._is_view() else ()
        # the caller, the optimiser and `update` may change shared memory before recorded values are folded
        shared = inputs.shares_memory(values, [*inputs.leaves(inputs_.values()), *state])
        return values.clone() if shared or may_be_shared(values) else values

    def _formula(self, inputs_: dict[str, Any]) -> Tensor:
        """Call `loss`, compiled with `compile=True`; ranks with equal inputs may share its work."""
        if self._compiled is not None:
            values = self._compiled(self.loss, inputs_)
            for logged in self._compiled.logged:
                self.log(*logged)
            return values
        if not self._is_replicated():
            return self.loss(**inputs_)
        with distributed.same_inputs():
            return self.loss(**inputs_)

    def _reduced(self, weighed: reduction.Weighed, carried: Tensor | None, batch: Batch) -> reduction.Reduced:
        """Reduce the values. Reductions over all samples of a relational loss cover the dropped ones too, as 0."""
        if batch.kept is not None and self.per_sample and self.reduction in reduction.OVER_ALL:
            weighed = weighed.restored(batch.kept)
        weight = reduction.product(weighed.weight, carried)
        return reduction.over_ranks(weighed, weight, self.reduction, not self.relational)

    def _record(self, stands: standing.Standing, mask: Tensor | None, batch: Batch) -> None:
        """Record the values of a batch, and keep them by sample if a callback has set `samples`."""
        if self.record:
            # the caller may change the returned values
            alone = stands.values.clone() if self.reduction == "none" else stands.values
            self.accumulate("loss", alone, stands.counts, self._is_replicated())
        if self.samples is not None:
            self.samples.values = per_sample.of_rank(stands.values, mask, batch, self.per_sample)

    def _is_replicated(self) -> bool:
        """Return whether every rank evaluates the same batch, so that values must be counted once."""
        return self.relational and distributed.world_size() > 1

    def _may_read_values(self, batch: Batch) -> bool:
        """Return whether the host may wait for values: on a CPU, and in the first calls on a GPU."""
        if self.debug or batch.on_cpu:
            return True
        self._calls += 1
        return self._calls <= CAREFUL_CALLS
