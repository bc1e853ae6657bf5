"""Copies accumulated statistics from their device to the host."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lossframe.statistics import histogram
from lossframe.statistics.accumulator import Accumulator, fold, joined
from lossframe.statistics.histogram import Histogram
from lossframe.statistics.moments import EMPTY, Moments


class HostCopy:
    """Copies the states and histograms of accumulators to the host, all at once, without waiting for the device."""

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
    """Return the moments of accumulators, which keep their values, with one copy from the device."""
    return HostCopy(accumulators).moments()
