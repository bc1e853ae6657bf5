"""What a loss remembers: recording keeps the detached values and computes nothing; they are folded in bulk."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torchmetrics import Metric

from lossframe import histogram
from lossframe.errors import NonFiniteError
from lossframe.histogram import Histogram
from lossframe.moments import EMPTY, Moments, merge, moments

_BUFFERED_CALLS = 64
_BUFFERED_VALUES = 1 << 16


class Statistics(Metric):
    """Count, mean, population std, min and max of every value seen, and quantiles; a `torchmetrics.Metric`.

    Moments are float64 whatever the precision of the model. `quantiles` also counts the values into a histogram,
    from which each quantile is known within 1/128 of its value (`histogram.RELATIVE_ERROR`). `compute()` gives a
    dict of scalar tensors.

    >>> statistics = Statistics(quantiles=True)
    >>> statistics.update(torch.tensor([1.0, 3.0]))
    >>> statistics.update(torch.tensor([5.0]))
    >>> {name: round(value.item(), 2) for name, value in statistics.compute().items()}
    {'count': 3.0, 'mean': 3.0, 'std': 1.63, 'min': 1.0, 'max': 5.0, 'p5': 1.21, 'p50': 3.02, 'p95': 4.8, 'p99': 4.96}
    """

    full_state_update = False
    moments: Tensor
    histogram: Tensor

    def __init__(self, quantiles: bool = False) -> None:
        super().__init__()
        empty = torch.tensor(EMPTY, dtype=torch.float64)
        self.add_state("moments", default=empty, dist_reduce_fx=merge, persistent=True)
        buckets = torch.zeros(histogram.SIZE if quantiles else 0, dtype=torch.int64)
        self.add_state("histogram", default=buckets, dist_reduce_fx="sum", persistent=True)
        self.quantiles = quantiles
        self.pending: list[tuple[Tensor, Tensor | None]] = []
        self.replicated = False

    def push(self, values: Tensor, mask: Tensor | None = None) -> None:
        """Remember values of any shape, those under the mask if there is one; nothing is computed yet."""
        pending = self.pending
        if not pending:
            self._computed, self._update_count = None, self._update_count + 1  # torchmetrics' cache of `compute`
        elif pending[-1][0].device != values.device:
            self.fold()
        pending.append((values.detach(), mask))
        if len(pending) >= _BUFFERED_CALLS or values.numel() > _BUFFERED_VALUES:
            self.fold()

    def fold(self) -> Tensor:
        """Merge the buffered values into the state, and return its moments."""
        if self.pending:
            values = [v.reshape(-1) for v, _ in self.pending]
            masks = [_mask_like(v, m) for v, m in self.pending] if any(m is not None for _, m in self.pending) else []
            self.pending.clear()
            device = values[0].device
            self.histogram = self.histogram.to(device)
            into = self.histogram if self.quantiles else None
            new = moments(_joined(values), _joined(masks) if masks else None, into)
            self.moments = merge(torch.stack([self.moments.to(device), new]))
        return self.moments

    def update(self, values: Tensor, mask: Tensor | None = None) -> None:
        """Remember values; the torchmetrics spelling of `push`."""
        self.push(values, mask)
        self.fold()

    def compute(self) -> dict[str, Tensor]:
        """Return count, mean, std, min and max, and p5, p50, p95 and p99 if asked for, as scalar float64 tensors."""
        count, mean, m2, low, high, _ = self.fold().unbind()
        result = {"count": count, "mean": mean, "std": (m2 / count.clamp_min(1)).sqrt(), "min": low, "max": high}
        if self.quantiles:
            seen = self.read()
            result |= {name: mean.new_tensor(seen.quantile(q)) for name, q in QUANTILES.items()}
        return result

    def read(self) -> Moments:
        """Return what is remembered as plain numbers; waits for the device."""
        return Transfer([self]).result()[0]

    def reset(self) -> None:
        """Forget everything."""
        self.pending.clear()
        super().reset()

    def _apply(self, fn: Any, exclude_state: Any = "") -> Self:
        """Follow a module to another device, and never to another dtype."""
        self.fold()
        device = fn(torch.empty(0, device=self.moments.device)).device
        self.moments, self.histogram = self.moments.to(device), self.histogram.to(device)
        return self


QUANTILES = {"p5": 0.05, "p50": 0.5, "p95": 0.95, "p99": 0.99}
"""The quantiles that are shown, by the suffix of their curve."""


class Transfer:
    """What some statistics remember, on its way to the host: one copy for all of them, which nothing waits for yet."""

    def __init__(self, statistics: Sequence[Statistics]) -> None:
        parts = [part for one in statistics for part in (one.fold().view(torch.int64), one.histogram)]
        self.sizes = [len(part) for part in parts]
        device = next((part.device for part in parts if part.device.type != "cpu"), torch.device("cpu"))
        packed = torch.cat([part.to(device) for part in parts]) if parts else torch.empty(0, dtype=torch.int64)
        self.host, self.arrived = packed, None
        if packed.is_cuda:
            self.host = torch.empty(packed.shape, dtype=packed.dtype, pin_memory=True)
            self.host.copy_(packed, non_blocking=True)
            self.arrived = torch.cuda.Event()
            self.arrived.record()

    def result(self) -> list[Moments]:
        """Wait for the copy, and return the moments of each."""
        if self.arrived is not None:
            self.arrived.synchronize()
        parts = iter(self.host.split(self.sizes))
        return [
            Moments.of(numbers.view(torch.float64).tolist(), Histogram.of(buckets.numpy()) if len(buckets) else None)
            for numbers, buckets in zip(parts, parts, strict=True)
        ]


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _mask_like(values: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return torch.ones(values.numel(), dtype=torch.bool, device=values.device)
    return mask.expand_as(values).reshape(-1)


class Memory:
    """Named statistics: what one loss, or one objective, remembers."""

    def __init__(self) -> None:
        self.statistics: dict[str, Statistics] = {}

    def push(
        self,
        name: str,
        values: Tensor,
        mask: Tensor | None = None,
        replicated: bool = False,
        quantiles: bool = False,
    ) -> None:
        """Remember values under a name; `replicated` ones are the same on every rank and count once."""
        statistics = self.statistics.get(name)
        if statistics is None:
            statistics = self.statistics[name] = Statistics(quantiles)
        statistics.replicated = replicated
        statistics.push(values, mask)

    def read(self) -> dict[str, Moments]:
        """Return the moments of every name seen, on this rank; one transfer from the device for all of them."""
        seen = zip(self.statistics, Transfer(list(self.statistics.values())).result(), strict=True)
        return {name: moments for name, moments in seen if moments.count}

    def reset(self) -> None:
        """Forget all values."""
        for statistics in self.statistics.values():
            statistics.reset()

    def state(self) -> dict[str, Any]:
        """Return the state of every name seen, for a checkpoint."""
        return {name: moments.state() for name, moments in self.read().items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over a `state`."""
        self.statistics.clear()
        for name, saved in state.items():
            seen = Moments.from_state(saved)
            statistics = self.statistics[name] = Statistics(seen.histogram is not None)
            statistics.moments = torch.tensor(seen.numbers, dtype=torch.float64)
            if seen.histogram is not None:
                statistics.histogram[seen.histogram.buckets] = torch.from_numpy(seen.histogram.counts)


def require_finite(term: str, name: str, moments: Moments) -> None:
    """Raise a `NonFiniteError` that names the term if it saw NaN or infinity."""
    if moments.nonfinite:
        what = term if name == "loss" else f"{term}, {name!r}"
        raise NonFiniteError(
            f"{what}: {moments.nonfinite:.0f} of {moments.count:.0f} values were not finite since the last reading; "
            "wanted finite values only. Look at its inputs, the learning rate and the precision"
        )
