"""Accumulates values on their device: keeps references, folds them in bulk and copies the results to the host."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from lossframe.chunks import blocks
from lossframe.statistics import histogram
from lossframe.statistics.histogram import Histogram
from lossframe.statistics.moments import EMPTY, FEW, Moments, merge, moments, moments_of_rows

_BUFFERED_CALLS = 64
_PER_THREAD = 1 << 16
"""Number of values that each thread folds at a time, so that they stay in the cache."""


class Accumulator:
    """Accumulates the values of one name: pending values with their masks, and the states of those already folded.

    `counts_values` says whether values are also counted into a histogram. `replicated` values are equal on all ranks,
    so that a merge over ranks counts those of one rank.
    """

    __slots__ = ("counts_values", "histogram", "masks", "pending", "replicated", "states")

    def __init__(self, counts_values: bool = False) -> None:
        self.counts_values = counts_values
        self.replicated = False
        self.pending: list[Tensor] = []
        self.masks: list[Tensor | None] = []
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

    def push(self, values: Tensor, mask: Tensor | None = None) -> None:
        """Append values of any shape under an optional mask; fold them after 64 calls, or at once if they are many."""
        pending = self.pending
        if pending and pending[-1].device != values.device:
            fold([self])
        pending.append(values.detach() if values.requires_grad else values)
        self.masks.append(mask)
        if len(pending) >= _BUFFERED_CALLS or values.numel() > FEW:
            fold([self])

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
        self.masks.clear()
        self.states = []
        self.histogram = None

    def take(self) -> tuple[list[Tensor], Tensor | None]:
        """Remove the pending values, and return them as flat tensors with their joint mask, None if no call had one."""
        flat = [v if v.ndim == 1 else v.reshape(-1) for v in self.pending]
        mask = None
        if any(mask is not None for mask in self.masks):
            mask = joined([mask_like(v, m) for v, m in zip(self.pending, self.masks, strict=True)])
        self.pending.clear()
        self.masks.clear()
        return flat, mask

    def buckets(self, device: torch.device) -> Tensor | None:
        """Return the histogram `[SIZE]` on a device, to be updated in place; None if values are not counted."""
        if not self.counts_values:
            return None
        if self.histogram is None:
            self.histogram = torch.zeros(histogram.SIZE, dtype=torch.int64, device=device)
        self.histogram = updatable(self.histogram.to(device))
        return self.histogram


@torch.inference_mode(False)  # a state made in inference mode could not be updated outside of it
@torch.no_grad()
def fold(accumulators: Iterable[Accumulator]) -> None:
    """Fold all pending values into states, in one operation for accumulators with equally many pending values."""
    alike: dict[Any, list[tuple[Accumulator, list[Tensor], Tensor | None]]] = defaultdict(list)
    for each in accumulators:
        if each.pending:
            values, mask = each.take()
            number = sum(part.numel() for part in values)
            if 0 < number <= FEW:
                alike[number, values[0].dtype, values[0].device, mask is None].append((each, values, mask))
            else:
                whole = joined(values)
                each.states.append(moments(whole, mask, each.buckets(whole.device)))
    for (number, *_), group in alike.items():
        rows = joined([part for _, values, _ in group for part in values]).view(-1, number)
        masks = [mask for *_, mask in group if mask is not None]
        mask = torch.stack(masks) if masks else None
        parts = blocks(rows, _PER_THREAD)
        states = joined([moments_of_rows(rows[k], None if mask is None else mask[k]) for k in parts])
        for k, ((each, _, counted), state) in enumerate(zip(group, states.unbind(), strict=True)):
            each.states.append(state)
            if (into := each.buckets(rows.device)) is not None:
                histogram.count(rows[k], counted, into)


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
        packed = joined([joined(states).view(torch.int64), *histograms])
        self.host: Tensor = packed
        self.arrived: torch.cuda.Event | None = None
        if packed.is_cuda:
            self.host = torch.empty(packed.shape, dtype=packed.dtype, pin_memory=True)
            self.host.copy_(packed, non_blocking=True)
            self.arrived = torch.cuda.Event()
            self.arrived.record()

    def moments(self) -> list[Moments]:
        """Wait for the copy, and return the moments of each accumulator."""
        if self.arrived is not None:
            self.arrived.synchronize()
        states, buckets = self.host.tensor_split((len(EMPTY) * len(self.counted),))
        numbers = states.view(torch.float64).view(-1, len(EMPTY)).tolist()
        dense = iter(buckets.view(-1, histogram.SIZE).numpy())
        histograms = [Histogram.of(next(dense)) if counted else None for counted in self.counted]
        return [Moments.of(row, seen) for row, seen in zip(numbers, histograms, strict=True)]


def on_host(accumulators: Sequence[Accumulator]) -> list[Moments]:
    """Return the moments of accumulators with one copy from the device; the accumulators keep their values."""
    return HostCopy(accumulators).moments()


def updatable(tensor: Tensor) -> Tensor:
    """Return a tensor that can be updated in place: a copy if the tensor was created in inference mode."""
    return tensor.clone() if tensor.is_inference() else tensor


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate tensors along dim 0; return a single tensor without a copy."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)  # type: ignore[arg-type]


def mask_like(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return a flat mask with one entry per value, all true if there is no mask."""
    if mask is None:
        return torch.ones(values.numel(), dtype=torch.bool, device=values.device)
    return mask.expand_as(values).reshape(-1)
