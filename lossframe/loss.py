"""The `Loss` contract: a formula that gives one value per thing penalised, a reduction, and a memory."""

import inspect
import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol, Self, Unpack

import torch
from torch import Tensor, nn

from lossframe import batch, by_sample, checks, distributed
from lossframe.by_sample import BySample
from lossframe.compilation import Compiled, outside
from lossframe.errors import InputError, names
from lossframe.moments import Moments
from lossframe.options import LossOptions, check_options, is_plain, positional_parameters
from lossframe.reduction import check_reduction, divide, fraction, weigh
from lossframe.statistics import QUANTILES, Memory, require_finite

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

    def forward(self, *args: Any, weight: Tensor | float | None = None, **kwargs: Any) -> Tensor:
        """Return the reduced loss of the whole batch of all ranks, and remember its values."""
        if torch.compiler.is_dynamo_compiling():
            return outside(self, "forward", *args, weight=weight, **kwargs)  # type: ignore[no-any-return]
        try:
            inputs = self._bind(args, kwargs)
            leaves = batch.leaves(inputs.values())
            inputs, readable = batch.prepared(inputs, leaves), self._may_read_values(leaves)
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

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        if len(args) > len(self.reads):
            raise InputError(f"reads {names(self.reads)}, but {len(args)} positional inputs were given")
        inputs = dict(zip(self.reads, args, strict=False)) | kwargs
        missing = [name for name in self.reads if name not in inputs and name not in self.optional]
        unknown = [name for name in inputs if name not in self.reads]
        if missing or unknown or len(inputs) < len(args) + len(kwargs):
            raise InputError(f"reads {names(self.reads)}; it was given {names([*self.reads[: len(args)], *kwargs])}")
        return inputs

    def _log(self, name: str, value: Tensor | float) -> None:
        value = torch.as_tensor(value).detach().clone()  # a parameter, say, goes on changing
        self.memory.push(name, value, replicated=self._replicated())

    def _evaluate(self, inputs: dict[str, Any], weight: Tensor | float | None, readable: bool) -> Tensor:
        keep: Tensor | None = None
        own: slice | None = None
        if self.relational:
            inputs, weight, own = self._whole(inputs, weight)
        self.check(**inputs)
        if readable and not self.shows_misfits:
            self.check_values(**inputs)
        if self.relational and isinstance(weight, Tensor) and weight.ndim:
            inputs, weight, keep = batch.leave_out(inputs, weight)
        counts = self.counts(**inputs)
        shield = batch.Shield() if self._leaves_out(counts, weight) else None
        values = self._values(inputs if shield is None else shield.before(inputs))
        if keep is not None and isinstance(weight, Tensor):
            weight = batch.weight_of_values(values, weight)
        if self.training:
            self.update(**inputs)
        weighted, aligned = weigh(batch.counted(values, counts), weight)
        mask = batch.mask(aligned, counts)
        if shield is not None:
            shield.cover(mask, values.shape)
        result = weighted
        if self.reduction != "none":
            carried = self.carried_weight(**inputs) if self.reduction == "weighted_mean" else None
            result = self._reduce(weighted, batch.product(aligned, carried), counts)
        if readable and self.shows_misfits and not math.isfinite((result.sum() if result.ndim else result).item()):
            self.check_values(**inputs)
        if self.record or self.by_sample is not None:
            self._remember(inputs, batch.elementary(weighted.detach(), counts), mask, keep, own)
        return result

    def _whole(
        self, inputs: dict[str, Any], weight: Tensor | float | None
    ) -> tuple[dict[str, Any], Tensor | float | None, slice | None]:
        """Return what a relational loss sees: the batch of all ranks and its weights, and which part is this rank's."""
        if isinstance(weight, Tensor) and weight.ndim:
            weight = batch.weight_of_samples(inputs, weight)
        if self.by_sample is not None:
            self.by_sample.inputs = by_sample.sums(inputs)
        return batch.gather(inputs, weight) if self._replicated() else (inputs, weight, None)

    def _leaves_out(self, counts: Tensor | None, weight: Tensor | float | None) -> bool:
        """Return whether some values may not count, so that their inputs must not get a gradient."""
        return not self.relational and (counts is not None or (isinstance(weight, Tensor) and weight.ndim > 0))

    def _remember(
        self, inputs: dict[str, Any], values: Tensor, mask: Tensor | None, keep: Tensor | None, own: slice | None
    ) -> None:
        if self.record:
            alone = values.clone() if self.reduction == "none" else values  # not what the caller may change
            self.memory.push("loss", alone, mask, self._replicated())
        if self.by_sample is not None:
            means = by_sample.means(values, mask, keep, batch.size(inputs))
            mine = means if means is None or own is None else means[own]
            self.by_sample.values = values.sum() if mine is None else mine

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Follow a module to another device, and never to half precision: losses are evaluated in float32."""

        def careful(tensor: Tensor) -> Tensor:
            moved: Tensor = fn(tensor)
            return tensor.to(moved.device) if batch.is_rounded(tensor, moved) else moved

        super()._apply(careful, recurse)
        return self

    def _values(self, inputs: dict[str, Any]) -> Tensor:
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
        if not self.relational and distributed.world_size() > 1:
            local = torch.as_tensor(denominator, dtype=numerator.dtype, device=numerator.device)
            numerator, summed = distributed.total(torch.stack([numerator, local])).unbind()
            denominator = 1.0 if self.reduction == "sum" else summed
        return divide(numerator, denominator)

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
