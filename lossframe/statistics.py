"""What a loss remembers: exact moments and extrema that merge over steps and ranks in any order.

A state is one float64 vector `[count, mean, m2, min, max, nonfinite]`, where `m2 = sum((x - mean)^2)`; two states
merge by Chan, Golub & LeVeque (1983), https://doi.org/10.1080/00031305.1983.10483115. Recording keeps the detached
values and computes nothing; they are folded into the state when the buffer is full, or at a drain.
"""

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torchmetrics import Metric

from lossframe import distributed
from lossframe.errors import NonFiniteError

_BUFFERED_CALLS = 64
_BUFFERED_VALUES = 1 << 16
_BYTES_PER_TERM = 2048


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, mean, sum of squared deviations, extrema, and how many values were not finite."""

    count: float = 0.0
    mean: float = 0.0
    m2: float = 0.0
    min: float = float("inf")
    max: float = float("-inf")
    nonfinite: float = 0.0

    @property
    def std(self) -> float:
        """Population standard deviation; 0 for a single value."""
        return float((self.m2 / self.count) ** 0.5) if self.count else 0.0

    def merge(self, other: Self) -> "Moments":
        """Return the moments of both sets of values together."""
        return Moments(*merge(torch.tensor([astuple(self), astuple(other)], dtype=torch.float64)).tolist())


def merge(states: Tensor) -> Tensor:
    """Merge states `[k, 6]` into one `[6]`; the empty state is neutral."""
    count, mean, m2, low, high, nonfinite = states.unbind(-1)
    total = count.sum()
    center = (count * mean).sum() / total.clamp_min(1)
    spread = m2.sum() + (count * (mean - center) ** 2).sum()
    return torch.stack([total, center, spread, low.amin(), high.amax(), nonfinite.sum()])


def moments(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the state `[6]` of a vector of values, of those under the mask if there is one."""
    x = values.double()
    if mask is None:
        mask = torch.ones((), dtype=torch.bool, device=x.device).expand_as(x)
    count = mask.sum(dtype=torch.float64)
    mean = torch.where(mask, x, 0.0).sum() / count.clamp_min(1)
    m2 = torch.where(mask, (x - mean) ** 2, 0.0).sum()
    # an infinity of the right sign in front, so that nothing at all still has extrema
    inf = x.new_full((1,), torch.inf)
    low = torch.cat([inf, torch.where(mask, x, torch.inf)]).amin()
    high = torch.cat([-inf, torch.where(mask, x, -torch.inf)]).amax()
    nonfinite = (mask & ~x.isfinite()).sum(dtype=torch.float64)
    return torch.stack([count, mean, m2, low, high, nonfinite])


class Statistics(Metric):
    """Count, mean, population std, min and max of every value seen; a `torchmetrics.Metric`.

    Moments are float64 whatever the precision of the model. `compute()` gives a dict of scalar tensors.

    >>> statistics = Statistics()
    >>> statistics.update(torch.tensor([1.0, 3.0]))
    >>> statistics.update(torch.tensor([5.0]))
    >>> {name: value.item() for name, value in statistics.compute().items()}
    {'count': 3.0, 'mean': 3.0, 'std': 1.632993161855452, 'min': 1.0, 'max': 5.0}
    """

    full_state_update = False
    moments: Tensor

    def __init__(self) -> None:
        super().__init__()
        empty = torch.tensor(astuple(Moments()), dtype=torch.float64)
        self.add_state("moments", default=empty, dist_reduce_fx=merge, persistent=True)
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
        """Merge the buffered values into the state, and return it."""
        if self.pending:
            values = torch.cat([v.reshape(-1) for v, _ in self.pending])
            mask = None
            if any(m is not None for _, m in self.pending):
                mask = torch.cat([_mask_like(v, m) for v, m in self.pending])
            self.pending.clear()
            new = moments(values, mask)
            self.moments = merge(torch.stack([self.moments.to(new.device), new]))
        return self.moments

    def update(self, values: Tensor, mask: Tensor | None = None) -> None:
        """Remember values; the torchmetrics spelling of `push`."""
        self.push(values, mask)
        self.fold()

    def compute(self) -> dict[str, Tensor]:
        """Return count, mean, std, min and max as scalar float64 tensors."""
        count, mean, m2, low, high, _ = self.fold().unbind()
        return {
            "count": count,
            "mean": mean,
            "std": (m2 / count.clamp_min(1)).sqrt(),
            "min": low,
            "max": high,
        }

    def reset(self) -> None:
        """Forget everything."""
        self.pending.clear()
        super().reset()

    def _apply(self, fn: Any, exclude_state: Any = "") -> Self:
        """Follow a module to another device, and never to another dtype."""
        self.fold()
        device = fn(torch.empty(0, device=self.moments.device)).device
        self.moments = self.moments.to(device)
        return self


def _mask_like(values: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return torch.ones(values.numel(), dtype=torch.bool, device=values.device)
    return mask.expand_as(values).reshape(-1)


class Memory:
    """Named statistics: what one loss, or one objective, remembers."""

    def __init__(self) -> None:
        self.statistics: dict[str, Statistics] = {}

    def push(self, name: str, values: Tensor, mask: Tensor | None = None, replicated: bool = False) -> None:
        """Remember values under a name; `replicated` ones are the same on every rank and count once."""
        statistics = self.statistics.get(name)
        if statistics is None:
            statistics = self.statistics[name] = Statistics()
        statistics.replicated = replicated
        statistics.push(values, mask)

    def read(self) -> dict[str, Moments]:
        """Return the moments of every name seen, on this rank; one transfer from the device for all of them."""
        return _to_host({("", name): statistics for name, statistics in self.statistics.items()}).get("", {})

    def reset(self) -> None:
        """Forget all values."""
        for statistics in self.statistics.values():
            statistics.reset()

    def state(self) -> dict[str, Tensor]:
        """Return the state of every name, for a checkpoint."""
        return {name: statistics.fold().cpu() for name, statistics in self.statistics.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over a `state`."""
        self.statistics.clear()
        for name, saved in state.items():
            self.statistics[name] = Statistics()
            self.statistics[name].moments = saved.clone()


def require_finite(term: str, name: str, moments: Moments) -> None:
    """Raise a `NonFiniteError` that names the term if it saw NaN or infinity."""
    if moments.nonfinite:
        what = term if name == "loss" else f"{term}, {name!r}"
        raise NonFiniteError(
            f"{what}: {moments.nonfinite:.0f} of {moments.count:.0f} values were not finite since the last reading; "
            "wanted finite values only. Look at its inputs, the learning rate and the precision"
        )


def drain(memories: Mapping[str, Memory], samples: int = 0) -> tuple[dict[str, dict[str, Moments]], int]:
    """Read and reset all memories of all ranks: term -> name -> moments, and the ranks' samples added up.

    One transfer from the device and one collective, for any number of terms and statistics. Must be called on
    every rank; every rank gets the same result. `memories` has the same keys on all ranks; the names that were
    logged may differ.
    """
    states = {(term, name): s for term, memory in memories.items() for name, s in memory.statistics.items()}
    replicated = {key: s.replicated for key, s in states.items()}
    message = (_to_host(states), replicated, samples)
    for memory in memories.values():
        memory.reset()
    capacity = _BYTES_PER_TERM * (1 + len(memories))
    messages = distributed.exchange(message, capacity, distributed.collective_device())
    merged: dict[str, dict[str, Moments]] = {term: {} for term in memories}
    for local, local_replicated, _ in messages:
        for term, names in local.items():
            for name, new in names.items():
                known = merged[term].get(name)
                if known is None:
                    merged[term][name] = new
                elif not local_replicated[term, name]:
                    merged[term][name] = known.merge(new)
    return merged, sum(count for *_, count in messages)


def _to_host(states: Mapping[tuple[str, str], Statistics]) -> dict[str, dict[str, Moments]]:
    result: dict[str, dict[str, Moments]] = {}
    if not states:
        return result
    folded = [statistics.fold() for statistics in states.values()]
    device = next((state.device for state in folded if state.device.type != "cpu"), folded[0].device)
    rows = torch.stack([state.to(device) for state in folded]).tolist()
    for (term, name), row in zip(states, rows, strict=True):
        if row[0]:  # nothing seen, nothing to tell
            result.setdefault(term, {})[name] = Moments(*row)
    return result
