"""Accumulates values on their device: keeps references, folds them in bulk and copies the results to the host."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_pop_interpreter_stack

from lossframe.chunks import blocks
from lossframe.errors import InputError
from lossframe.statistics import histogram
from lossframe.statistics.histogram import Histogram
from lossframe.statistics.moments import EMPTY, Moments, merge, moments, moments_of_rows

_BUFFERED_CALLS = 64
_PER_THREAD = 1 << 16
"""Number of values that each thread folds at a time, so that they stay in the cache."""
FEW = 1 << 16
"""Largest number of values of a call that are kept until later calls; more are folded at once."""


Counts = Tensor | float | None
"""How many equal values each value stands for: numbers >= 0 or a bool mask that broadcast to the values; None is 1."""


class Accumulator:
    """Accumulates the values of one name: pending values with their counts, and the states of those already folded.

    `counts_values` says whether values are also counted into a histogram.
    """

    __slots__ = ("counts", "counts_values", "histogram", "pending", "states")

    def __init__(self, counts_values: bool = False) -> None:
        self.counts_values = counts_values
        self.pending: list[Tensor] = []
        self.counts: list[Counts] = []
        self.states: list[Tensor] = []
        self.histogram: Tensor | None = None

    @classmethod
    def of(cls, moments: Moments) -> Self:
        """Create an accumulator whose folded values have these moments."""
        accumulator = cls(moments.histogram is not None)
        accumulator.states = [torch.tensor(moments.numbers, dtype=torch.float64)]
        if moments.histogram is not None:
            accumulator.histogram = torch.from_numpy(moments.histogram.dense())
        return accumulator

    def push(self, values: Tensor, counts: Counts = None) -> None:
        """Append values of any shape with their counts; fold them after 64 calls, or at once if they are many."""
        pending = self.pending
        if pending and pending[-1].device != values.device:
            fold([self])
        pending.append(values.detach() if values.requires_grad else values)
        self.counts.append(counts)
        if len(pending) >= _BUFFERED_CALLS or values.numel() > FEW:
            fold([self])

    def absorb(self, other: "Accumulator") -> None:
        """Move the values of another accumulator here. Unless both count their values, the result has no histogram."""
        if not self.pending and not self.states:
            self.counts_values, self.histogram = other.counts_values, other.histogram
        elif self.counts_values != other.counts_values:
            fold([self, other])
            self.counts_values, self.histogram = False, None
        elif other.histogram is not None and (into := self.buckets(other.histogram.device)) is not None:
            into += other.histogram
        self.states += other.states
        for values, counts in zip(other.pending, other.counts, strict=True):
            self.push(values, counts)
        other.reset()

    def state(self) -> Tensor:
        """Return the merged state `[6]` of all folded values."""
        if not self.states:
            return torch.tensor(EMPTY, dtype=torch.float64)
        if len(self.states) > 1:
            self.states = [merge(torch.stack([state.to(self.states[-1].device) for state in self.states]))]
        return self.states[0]

    def reset(self) -> None:
        """Drop all values, pending and folded."""
        self.pending.clear()
        self.counts.clear()
        self.states = []
        self.histogram = None

    def take(self) -> tuple[list[Tensor], Tensor | None]:
        """Remove the pending values, and return them as flat tensors with their joint counts, None if no call had any.

        The counts are a bool mask if all calls had masks or none, and float64 otherwise.
        """
        flat = [v if v.ndim == 1 else v.reshape(-1) for v in self.pending]
        counts = None
        if any(each is not None for each in self.counts):
            counts = joint_counts(self.pending, self.counts)
        self.pending.clear()
        self.counts.clear()
        return flat, counts

    def buckets(self, device: torch.device) -> Tensor | None:
        """Return the histogram `[SIZE]` on a device, to be updated in place; None if values are not counted."""
        if not self.counts_values:
            return None
        if self.histogram is None:
            self.histogram = torch.zeros(histogram.SIZE, dtype=torch.float64, device=device)
        self.histogram = updatable(self.histogram.to(device))
        return self.histogram


@contextmanager
def outside_transforms() -> Iterator[None]:
    """Leave the transforms of `torch.func` for a while: inside, every result is wrapped and has no memory to read."""
    with ExitStack() as stack:
        while torch._C._are_functorch_transforms_active():
            stack.enter_context(temporarily_pop_interpreter_stack())
        yield


@outside_transforms()
@torch.inference_mode(False)  # a state made in inference mode could not be updated outside of it
@torch.no_grad()
def fold(accumulators: Iterable[Accumulator]) -> None:
    """Fold all pending values into states, in one operation for accumulators with equally many pending values."""
    alike: dict[Any, list[tuple[Accumulator, list[Tensor], Tensor | None]]] = defaultdict(list)
    for each in accumulators:
        if each.pending:
            values, counts = each.take()
            number = sum(part.numel() for part in values)
            if 0 < number <= FEW:
                kind = None if counts is None else counts.dtype
                alike[number, values[0].dtype, values[0].device, kind].append((each, values, counts))
            else:
                whole = joined(values)
                each.states.append(moments(whole, counts, each.buckets(whole.device)))
    for (number, *_), group in alike.items():
        rows = joined([part for _, values, _ in group for part in values]).view(-1, number)
        columns = [counts for *_, counts in group if counts is not None]
        weights = torch.stack(columns) if columns else None
        parts = blocks(rows, _PER_THREAD)
        states = joined([moments_of_rows(rows[k], None if weights is None else weights[k]) for k in parts])
        for k, ((each, _, counts), state) in enumerate(zip(group, states.unbind(), strict=True)):
            each.states.append(state)
            if (into := each.buckets(rows.device)) is not None:
                histogram.count(rows[k], into, counts)


class HostCopy:
    """Copies the states and histograms of accumulators to the host in one transfer, without waiting for the device."""

    def __init__(self, accumulators: Sequence[Accumulator]) -> None:
        fold(accumulators)
        self.counted = [each.histogram is not None for each in accumulators]
        states = [each.state() for each in accumulators] or [torch.empty(0, dtype=torch.float64)]
        histograms = [each.histogram for each in accumulators if each.histogram is not None]
        device = next((part.device for part in (*states, *histograms) if part.device.type != "cpu"), None)
        if device is not None:
            states, histograms = [s.to(device) for s in states], [h.to(device) for h in histograms]
        self.states, self.histograms = joined(states), histograms
        self.arrived: torch.cuda.Event | None = None
        if self.states.is_cuda:
            packed = joined([self.states, *histograms])
            host = torch.empty(packed.shape, dtype=packed.dtype, pin_memory=True)
            host.copy_(packed, non_blocking=True)
            self.states, *self.histograms = host.split([len(self.states), *map(len, histograms)])
            self.arrived = torch.cuda.Event()
            self.arrived.record()

    def moments(self) -> list[Moments]:
        """Wait for the copy, and return the moments of each accumulator."""
        if self.arrived is not None:
            self.arrived.synchronize()
        numbers = self.states.view(-1, len(EMPTY)).tolist()
        dense = iter(self.histograms)
        histograms = [Histogram.of(next(dense).numpy()) if counted else None for counted in self.counted]
        return [Moments.of(row, seen) for row, seen in zip(numbers, histograms, strict=True)]


def on_host(accumulators: Sequence[Accumulator]) -> list[Moments]:
    """Return the moments of accumulators with one copy from the device; the accumulators keep their values."""
    return HostCopy(accumulators).moments()


def as_recorded(value: Tensor | float) -> Tensor:
    """Return a copy of a value to log, which may change later; numbers of Python keep all their digits."""
    wide = value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)
    return wide.detach().clone()


def unwrapped(tensor: Tensor) -> Tensor:
    """Return the tensor inside the wrappers of `torch.func`, which end with the transform."""
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    return tensor.detach()


def updatable(tensor: Tensor) -> Tensor:
    """Return a tensor that can be updated in place: a copy if the tensor was created in inference mode."""
    return tensor.clone() if tensor.is_inference() else tensor


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate tensors along dim 0; return a single tensor without a copy."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)  # type: ignore[arg-type]


def may_be_shared(values: Tensor) -> bool:
    """Return whether somebody else may hold the memory of values that would be kept until later calls are folded.

    A result of an operation that autograd records is fresh, unless it is a view; many values are folded at once.
    """
    return values.numel() <= FEW and (values.grad_fn is None or values._is_view())


def as_counts(count: Tensor | float) -> Counts:
    """Return counts to keep, or raise an `InputError` if a number is negative or not finite."""
    if isinstance(count, Tensor):
        return count.detach().clone()
    if not 0 <= count < math.inf:
        raise InputError(f"wanted a count >= 0 of the values that a value stands for, found {count}")
    return None if count == 1 else float(count)


def counts_like(values: Tensor, counts: Counts) -> Tensor:
    """Return flat counts with one entry per value: a bool mask, all true for None, or float64 numbers."""
    if counts is None:
        return torch.ones(values.numel(), dtype=torch.bool, device=values.device)
    if not isinstance(counts, Tensor):
        return torch.full((values.numel(),), counts, dtype=torch.float64, device=values.device)
    counts = counts if counts.dtype == torch.bool else counts.detach().to(values.device, torch.float64)
    return counts.expand_as(values).reshape(-1)


def joint_counts(values: Sequence[Tensor], counts: Sequence[Counts]) -> Tensor:
    """Return the joint flat counts of several calls, in one operation for single numbers on a CPU."""
    if values[0].is_cpu and not any(isinstance(c, Tensor) for c in counts) and all(v.numel() == 1 for v in values):
        return torch.tensor([1.0 if c is None else c for c in counts], dtype=torch.float64)
    return joined([counts_like(v, c) for v, c in zip(values, counts, strict=True)])
