"""Computes the statistics of values as a `torchmetrics.Metric`."""

from typing import Any, Self

import torch
from torch import Tensor
from torchmetrics import Metric

from lossframe.statistics import histogram, series
from lossframe.statistics.accumulator import counts_like, updatable
from lossframe.statistics.histogram import Histogram
from lossframe.statistics.moments import EMPTY, Moments, merge, moments


class Statistics(Metric):
    """Computes count, mean, population std, min, max and quantiles of all values, as a `torchmetrics.Metric`.

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
        buckets = torch.zeros(histogram.SIZE if quantiles else 0, dtype=torch.float64)
        self.add_state("histogram", default=buckets, dist_reduce_fx="sum", persistent=True)
        self.quantiles = quantiles

    def update(self, values: Tensor, mask: Tensor | None = None) -> None:
        """Accumulate values of any shape, or those under the mask."""
        counted = None if mask is None else counts_like(values, mask)
        self.histogram = updatable(self.histogram)
        new = moments(values.detach().reshape(-1), counted, self.histogram if self.quantiles else None)
        self.moments = merge(torch.stack([self.moments, new]))

    def compute(self) -> dict[str, Tensor]:
        """Return count, mean, std, min and max, with `quantiles` also p5, p50, p95 and p99, as float64 scalars."""
        count, mean, m2, low, high, _ = self.moments.unbind()
        result = {"count": count, "mean": mean, "std": (m2 / count.clamp_min(1)).sqrt(), "min": low, "max": high}
        if self.quantiles:
            seen = Moments.of(self.moments.tolist(), Histogram.of(self.histogram.cpu().numpy()))
            result |= {each.suffix: mean.new_tensor(each.read(seen)) for each in series.SERIES if each.from_histogram}
        return result

    def _apply(self, fn: Any, exclude_state: Any = "") -> Self:
        """Move the states to another device with their module; ignore a cast to another dtype."""
        device = fn(torch.empty(0, device=self.moments.device)).device
        self.moments, self.histogram = self.moments.to(device), self.histogram.to(device)
        return self
