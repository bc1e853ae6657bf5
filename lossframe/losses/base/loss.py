"""The `Loss` contract: a formula that gives one value per thing penalised, a reduction, and a memory."""

import inspect
import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol, Self, Unpack

import torch
from torch import Tensor, nn

from lossframe import distributed
from lossframe.errors import InputError
from lossframe.losses.base import checks, masking, per_sample
from lossframe.losses.base import inputs as of_call
from lossframe.losses.base.compilation import Compiled, outside
from lossframe.losses.base.options import LossOptions, check_options, is_plain, positional_parameters
from lossframe.losses.base.per_sample import BySample
from lossframe.losses.base.reduction import align, check_reduction, divide, fraction, weigh
from lossframe.statistics.accumulator import QUANTILES, Memory, require_finite
from lossframe.statistics.moments import Moments

__all__ = ["Loss", "LossOptions", "SummaryWriter"]

_CAREFUL_CALLS = 3


class SummaryWriter(Protocol):
    """Anything with TensorBoard's `add_scalar`."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> Any:
        """Write one point of one curve."""


class Loss(nn.Module, ABC):
    """Abstract base: subclasses write `loss(...)`, which returns unreduced values; the base does the rest.

    The names of `loss`'s parameters are the entries that it reads. Calling the loss checks them, evaluates the
    values in float32 or better, weighs and reduces them, and remembers them, with the same value and gradient on
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
    """Whether what `check_values` refuses makes the result NaN or infinite: then it is asked only in that case."""
    debug: bool = False
    """Whether to check ranges at every call also where that waits for a GPU."""

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
        super().__init__()
        check_options(type(self), options)
        self.reduction = options.get("reduction", "mean")
        check_reduction(self.reduction)
        self.log_std = options.get("log_std", False)
        self.log_min = options.get("log_min", False)
        self.log_max = options.get("log_max", False)
        self.record = options.get("record", True)
        self.by_sample: BySample | None = None
        self._compiled = Compiled() if options.get("compile", False) else None
        self.memory = Memory()
        self.log_quantiles = options.get("log_quantiles", False)
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
        """Return the reduced loss of the whole batch of all ranks, and remember its values."""
        if torch.compiler.is_dynamo_compiling():
            return outside(self, "forward", *args, weight=weight, **kwargs)  # type: ignore[no-any-return]
        try:
            inputs = of_call.bind(self.reads, self.optional, args, kwargs)
            leaves = of_call.leaves(inputs.values())
            of_call.refuse_vmap(leaves)
            weight = of_call.weight_as_tensor(weight, leaves)
            inputs = of_call.converted(inputs, leaves, self.class_inputs)
            readable = self._may_read_values(leaves)
            device = leaves[0].device.type if leaves else "cpu"
            if not torch.is_autocast_enabled(device):
                return self._evaluate(inputs, weight, readable)
            with torch.autocast(device, enabled=False):
                return self._evaluate(inputs, weight, readable)
        except InputError as error:
            prefix = f"{type(self).__name__}: "
            message = str(error)
            raise type(error)(message if message.startswith(prefix[:-2]) else prefix + message) from None

    def log(self, name: str, value: Tensor | float) -> None:
        """Remember any value, of any shape, under a name of its own."""
        if not self.record:
            return
        if not torch.compiler.is_dynamo_compiling():
            self._log(name, value)
        elif self._compiled is None or self._compiled.logged is None:
            outside(self, "_log", name, value)
        else:
            self._compiled.logged.append((name, value.detach() if isinstance(value, Tensor) else value))

    @property
    def log_quantiles(self) -> bool:
        """Whether values are counted into a histogram; a change holds once the memory is emptied."""
        return "loss" in self.memory.counted

    @log_quantiles.setter
    def log_quantiles(self, wanted: bool) -> None:
        self.memory.counted = ("loss",) if wanted else ()

    @property
    def avg(self) -> dict[str, float]:
        """The mean of everything remembered on this rank: the loss's own values under "loss", logged ones by name.

        An average weighs elements, not calls. A non-finite value is a `NonFiniteError`.
        """
        return {name: moments.mean for name, moments in self._read().items()}

    def reset_avg(self) -> None:
        """Forget everything remembered."""
        self.memory.reset()

    def summary(self, samples_seen: int, summary_writer: SummaryWriter) -> None:
        """Write what is remembered on this rank as curves over samples seen; nothing is reset.

        Tags are `k`, and `k_std`, `k_min`, `k_max` where `log_std`, `log_min`, `log_max` ask for them; `k_p5`, `k_p50`,
        `k_p95` and `k_p99` where `log_quantiles` does.
        """
        for name, moments in self._read().items():
            for tag, value in self.series(name, moments).items():
                summary_writer.add_scalar(tag, value, samples_seen)

    def series(self, tag: str, moments: Moments) -> dict[str, float]:
        """Return the curves to show for one name: its mean and, where asked for, std, min, max and quantiles."""
        shown = {tag: moments.mean}
        if self.log_std:
            shown[f"{tag}_std"] = moments.std
        if self.log_min:
            shown[f"{tag}_min"] = moments.min
        if self.log_max:
            shown[f"{tag}_max"] = moments.max
        if self.log_quantiles and moments.histogram is not None:
            shown |= {f"{tag}_{suffix}": moments.quantile(q) for suffix, q in QUANTILES.items()}
        return shown

    def extra_repr(self) -> str:
        """Show the constructor's arguments that are kept under their own names."""
        shown = [*positional_parameters(type(self).__init__), "reduction"]
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in shown if is_plain(getattr(self, name, None)))

    def get_extra_state(self) -> dict[str, Tensor]:
        """Put the statistics into the `state_dict`."""
        return self.memory.state()

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Take the statistics from a `state_dict`."""
        self.memory.load_state(state)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Load what is there: statistics are no weights, and the checkpoint of another library's loss has none."""
        state_dict.setdefault(f"{prefix}_extra_state", {})
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _log(self, name: str, value: Tensor | float) -> None:
        value = torch.as_tensor(value).detach().clone()  # a parameter, say, goes on changing
        self.memory.push(name, value, replicated=self._in_formula and self._replicated())

    def _evaluate(self, inputs: dict[str, Any], weight: Tensor | float | None, readable: bool) -> Tensor:
        keep: Tensor | None = None
        own: slice | None = None
        if self.relational:
            inputs, weight, own = self._whole(inputs, weight)
        self.check(**inputs)
        if self.relational and isinstance(weight, Tensor) and weight.ndim:
            inputs, weight, keep = of_call.leave_out(inputs, weight)
        counts = self.counts(**inputs)
        if readable and not self.shows_misfits:
            self._check_values(inputs, weight, counts)
        shield = masking.Shield(self.core_dims) if self._leaves_out(counts, weight) else None
        values = self._values(inputs if shield is None else shield.before(inputs))
        if keep is not None and isinstance(weight, Tensor):
            weight = masking.weight_of_values(values, weight, self.per_sample)
        if self.training:
            self.update(**inputs)
        aligned = None if weight is None else align(weight, values)
        mask = masking.counted(aligned, counts)
        weighted = weigh(values, aligned, mask)
        if shield is not None:
            shield.cover(mask, values.shape)
        result = self._reduced(weighted, aligned, counts, inputs, keep)
        if readable and self.shows_misfits and not math.isfinite((result.sum() if result.ndim else result).item()):
            self._check_values(inputs, weight, counts)
        if self.record or self.by_sample is not None:
            self._remember(inputs, masking.elementary(weighted.detach(), counts), mask, keep, own)
        return result

    def _whole(
        self, inputs: dict[str, Any], weight: Tensor | float | None
    ) -> tuple[dict[str, Any], Tensor | float | None, slice | None]:
        """Return what a relational loss sees: the batch of all ranks and its weights, and which part is this rank's."""
        weight = of_call.weight_of_samples(inputs, weight)
        if self.by_sample is not None:
            self.by_sample.inputs = per_sample.sums(inputs)
        return of_call.gather(inputs, weight) if self._replicated() else (inputs, weight, None)

    def _check_values(self, inputs: dict[str, Any], weight: Tensor | float | None, counts: Tensor | None) -> None:
        """Raise an `InputError` unless the values fit that count."""
        try:
            self.check_values(**inputs)
        except InputError:
            if not self._leaves_out(counts, weight):
                raise
            self.check_values(**masking.filled(inputs, weight, counts, self.core_dims))

    def _leaves_out(self, counts: Tensor | None, weight: Tensor | float | None) -> bool:
        """Return whether some values may not count, so that their inputs must not get a gradient."""
        return not self.relational and (counts is not None or isinstance(weight, Tensor) or weight == 0)

    def _reduced(
        self,
        weighted: Tensor,
        weight: Tensor | None,
        counts: Tensor | None,
        inputs: dict[str, Any],
        keep: Tensor | None,
    ) -> Tensor:
        """Return the loss; a relational loss's values, and their number, are again those of all samples."""
        if keep is not None and self.per_sample and weighted.ndim and self.reduction in ("none", "batch_mean"):
            weighted = masking.restored(weighted, keep)
        if self.reduction == "none":
            return weighted
        carried = self.carried_weight(**inputs) if self.reduction == "weighted_mean" else None
        return self._reduce(weighted, masking.product(weight, carried), counts)

    def _remember(
        self, inputs: dict[str, Any], values: Tensor, mask: Tensor | None, keep: Tensor | None, own: slice | None
    ) -> None:
        if self.record:
            alone = values.clone() if self.reduction == "none" else values  # not what the caller may change
            self.memory.push("loss", alone, mask, self._replicated())
        if self.by_sample is not None:
            means = per_sample.means(values, mask, keep, of_call.size(inputs)) if self.per_sample else None
            mine = means if means is None or own is None else means[own]
            self.by_sample.values = values.sum() if mine is None else mine

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Register a buffer in float32 or better, whatever the default dtype is."""
        super().register_buffer(name, None if tensor is None else of_call.at_least_float32(tensor), persistent)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Register a parameter in float32 or better, whatever the default dtype is."""
        if param is not None:
            param.data = of_call.at_least_float32(param.data)
        super().register_parameter(name, param)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Follow a module to another device, and never to half precision: losses are evaluated in float32."""

        def careful(tensor: Tensor) -> Tensor:
            moved: Tensor = fn(tensor)
            return tensor.to(moved.device) if of_call.is_narrow(moved) and not of_call.is_narrow(tensor) else moved

        super()._apply(careful, recurse)
        return self

    def _values(self, inputs: dict[str, Any]) -> Tensor:
        self._in_formula = True
        try:
            values = self._formula(inputs)
        finally:
            self._in_formula = False
        if not isinstance(values, Tensor):
            raise InputError(f"wanted a tensor of values from loss(...), found {type(values).__name__}")
        state = (*self.parameters(), *self.buffers()) if values.is_leaf or values._is_view() else ()
        # what the caller, the optimiser or `update` changes later must not change what is recorded
        return values.clone() if of_call.shares_memory(values, [*of_call.leaves(inputs.values()), *state]) else values

    def _formula(self, inputs: dict[str, Any]) -> Tensor:
        if self._compiled is not None:
            return self._computed(self._compiled, inputs)
        if not self._replicated():
            return self.loss(**inputs)
        with distributed.same_inputs():
            return self.loss(**inputs)

    def _computed(self, compiled: Compiled, inputs: dict[str, Any]) -> Tensor:
        """Return the values; what the formula logs leaves the graph beside them, and is remembered after."""
        logged: list[tuple[str, Tensor | float]] = []
        compiled.logged = logged
        try:
            return compiled(self.loss, inputs)
        finally:
            compiled.logged = None
            for name, value in logged:
                self._log(name, value)

    def _reduce(self, weighted: Tensor, weight: Tensor | None, counts: Tensor | None) -> Tensor:
        numerator, denominator = fraction(weighted, weight, self.reduction, counts)
        shared = not self.relational and distributed.world_size() > 1
        if shared:
            local = torch.as_tensor(denominator, dtype=numerator.dtype, device=numerator.device)
            numerator, summed = distributed.total(torch.stack([numerator, local])).unbind()
            denominator = 1.0 if self.reduction == "sum" else summed
        result = divide(numerator, denominator)
        if result.is_cpu and math.isinf(result.item()):  # the sum overflows, perhaps the mean does not
            parts = divide(weighted, denominator).sum()
            result = distributed.total(parts) if shared else parts
        return result

    def _replicated(self) -> bool:
        return self.relational and distributed.world_size() > 1

    def _may_read_values(self, leaves: list[Tensor]) -> bool:
        if self.debug or all(leaf.is_cpu for leaf in leaves):
            return True
        self._calls += 1
        return self._calls <= _CAREFUL_CALLS

    def _read(self) -> dict[str, Moments]:
        read = self.memory.read()
        for name, moments in read.items():
            require_finite(type(self).__name__, name, moments)
        return read
