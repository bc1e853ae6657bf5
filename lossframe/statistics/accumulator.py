"""What a loss remembers: recording keeps the detached values and computes nothing; they are folded in bulk."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torchmetrics import Metric

from lossframe.chunks import blocks
from lossframe.errors import NonFiniteError
from lossframe.statistics import histogram
from lossframe.statistics.histogram import Histogram
from lossframe.statistics.moments import EMPTY, FEW, Moments, merge, moments, moments_of_rows

QUANTILES = {"p5": 0.05, "p50": 0.5, "p95": 0.95, "p99": 0.99}
"""The quantiles that are shown, by the suffix of their curve."""

_BUFFERED_CALLS = 64
_PER_THREAD = 1 << 16
"""How many values each thread folds at a time: few enough to stay in the cache."""


class Record:
    """What is remembered under one name: values that wait, and the states `[k, 6]` and histogram of the others."""

    __slots__ = ("histogram", "masks", "pending", "quantiles", "replicated", "states")

    def __init__(self, quantiles: bool = False) -> None:
        self.quantiles = quantiles
        self.replicated = False
        self.pending: list[Tensor] = []
        self.masks: list[Tensor | None] = []
        self.states: list[Tensor] = []
        self.histogram: Tensor | None = None

    def push(self, values: Tensor, mask: Tensor | None = None) -> None:
        """Remember values of any shape, those under the mask if there is one; nothing is computed yet."""
        pending = self.pending
        if pending and pending[-1].device != values.device:
            fold([self])
        pending.append(values.detach() if values.requires_grad else values)
        self.masks.append(mask)
        if len(pending) >= _BUFFERED_CALLS or values.numel() > FEW:
            fold([self])

    def state(self) -> Tensor:
        """Return the state `[6]` of everything that is folded."""
        if not self.states:
            return torch.tensor(EMPTY, dtype=torch.float64)
        if len(self.states) > 1:
            self.states = [merge(torch.stack([state.to(self.states[-1].device) for state in self.states]))]
        return self.states[0]

    def reset(self) -> None:
        """Forget everything."""
        self.pending.clear()
        self.masks.clear()
        self.states = []
        self.histogram = None

    def take(self) -> tuple[list[Tensor], Tensor | None]:
        """Return the values that wait, flat, and what counts of them; nothing waits any more."""
        flat = [v if v.ndim == 1 else v.reshape(-1) for v in self.pending]
        mask = None
        if any(mask is not None for mask in self.masks):
            mask = _joined([_mask_like(v, m) for v, m in zip(self.pending, self.masks, strict=True)])
        self.pending.clear()
        self.masks.clear()
        return flat, mask

    def buckets(self, device: torch.device) -> Tensor | None:
        """Return what to count values into; None unless quantiles are wanted."""
        if not self.quantiles:
            return None
        if self.histogram is None:
            self.histogram = torch.zeros(histogram.SIZE, dtype=torch.int64, device=device)
        self.histogram = _updatable(self.histogram.to(device))
        return self.histogram


@torch.inference_mode(False)  # a state made in inference mode could not be updated outside of it
@torch.no_grad()
def fold(records: Iterable[Record]) -> None:
    """Compute the states of the values that wait, at once for all records that hold equally many."""
    alike: dict[Any, list[tuple[Record, list[Tensor], Tensor | None]]] = defaultdict(list)
    for record in records:
        if record.pending:
            values, mask = record.take()
            number = sum(part.numel() for part in values)
            if 0 < number <= FEW:
                alike[number, values[0].dtype, values[0].device, mask is None].append((record, values, mask))
            else:
                joined = _joined(values)
                record.states.append(moments(joined, mask, record.buckets(joined.device)))
    for (number, *_), group in alike.items():
        rows = _joined([part for _, values, _ in group for part in values]).view(-1, number)
        masks = [mask for *_, mask in group if mask is not None]
        mask = torch.stack(masks) if masks else None
        parts = blocks(rows, _PER_THREAD)
        states = _joined([moments_of_rows(rows[k], None if mask is None else mask[k]) for k in parts])
        for k, ((record, _, counted), state) in enumerate(zip(group, states.unbind(), strict=True)):
            record.states.append(state)
            if (into := record.buckets(rows.device)) is not None:
                histogram.count(rows[k], counted, into)


class Transfer:
    """What some records hold, on its way to the host: one copy for all of them, which nothing waits for yet."""

    def __init__(self, records: Sequence[Record]) -> None:
        fold(records)
        self.counted = [record.histogram is not None for record in records]
        states = [record.state() for record in records] or [torch.empty(0, dtype=torch.float64)]
        histograms = [record.histogram for record in records if record.histogram is not None]
        device = next((part.device for part in (*states, *histograms) if part.device.type != "cpu"), None)
        if device is not None:
            states, histograms = [s.to(device) for s in states], [h.to(device) for h in histograms]
        packed = _joined([_joined(states).view(torch.int64), *histograms])
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
        states, buckets = self.host.tensor_split((len(EMPTY) * len(self.counted),))
        numbers = states.view(torch.float64).view(-1, len(EMPTY)).tolist()
        dense = iter(buckets.view(-1, histogram.SIZE).numpy())
        histograms = [Histogram.of(next(dense)) if counted else None for counted in self.counted]
        return [Moments.of(row, seen) for row, seen in zip(numbers, histograms, strict=True)]


class Memory:
    """Named records: what one loss, or one objective, remembers; the values of some are `counted` into a histogram."""

    def __init__(self, *counted: str) -> None:
        self.counted = counted
        self.records: dict[str, Record] = {}

    def push(self, name: str, values: Tensor, mask: Tensor | None = None, replicated: bool = False) -> None:
        """Remember values under a name; `replicated` ones are the same on every rank and count once."""
        record = self.records.get(name)
        if record is None:
            record = self.records[name] = Record(name in self.counted)
        record.replicated = replicated
        record.push(values, mask)

    def read(self) -> dict[str, Moments]:
        """Return the moments of every name seen, on this rank; one transfer from the device for all of them."""
        seen = zip(self.records, Transfer(list(self.records.values())).result(), strict=True)
        return {name: moments for name, moments in seen if moments.count}

    def reset(self) -> None:
        """Forget all values."""
        for name, record in self.records.items():
            record.reset()
            record.quantiles = name in self.counted

    def state(self) -> dict[str, Any]:
        """Return the state of every name seen, for a checkpoint."""
        return {name: moments.state() for name, moments in self.read().items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over a `state`."""
        self.records.clear()
        for name, saved in state.items():
            seen = Moments.from_state(saved)
            record = self.records[name] = Record(seen.histogram is not None)
            record.states = [torch.tensor(seen.numbers, dtype=torch.float64)]
            if seen.histogram is not None:
                record.histogram = torch.from_numpy(seen.histogram.dense())


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

    def update(self, values: Tensor, mask: Tensor | None = None) -> None:
        """Take in values of any shape, those under the mask if there is one."""
        counted = None if mask is None else _mask_like(values, mask)
        self.histogram = _updatable(self.histogram)
        new = moments(values.detach().reshape(-1), counted, self.histogram if self.quantiles else None)
        self.moments = merge(torch.stack([self.moments, new]))

    def compute(self) -> dict[str, Tensor]:
        """Return count, mean, std, min and max, and p5, p50, p95 and p99 if asked for, as scalar float64 tensors."""
        count, mean, m2, low, high, _ = self.moments.unbind()
        result = {"count": count, "mean": mean, "std": (m2 / count.clamp_min(1)).sqrt(), "min": low, "max": high}
        if self.quantiles:
            seen = Moments.of(self.moments.tolist(), Histogram.of(self.histogram.cpu().numpy()))
            result |= {name: mean.new_tensor(seen.quantile(q)) for name, q in QUANTILES.items()}
        return result

    def _apply(self, fn: Any, exclude_state: Any = "") -> Self:
        """Follow a module to another device, and never to another dtype."""
        device = fn(torch.empty(0, device=self.moments.device)).device
        self.moments, self.histogram = self.moments.to(device), self.histogram.to(device)
        return self


def require_finite(term: str, name: str, moments: Moments) -> None:
    """Raise a `NonFiniteError` that names the term if it saw NaN or infinity."""
    if moments.nonfinite:
        what = term if name == "loss" else f"{term}, {name!r}"
        raise NonFiniteError(
            f"{what}: {moments.nonfinite:.0f} of {moments.count:.0f} values were not finite since the last reading; "
            "wanted finite values only. Look at its inputs, the learning rate and the precision"
        )


def _updatable(tensor: Tensor) -> Tensor:
    """Return a tensor that can be updated in place: not one that was made in inference mode."""
    return tensor.clone() if tensor.is_inference() else tensor


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)  # type: ignore[arg-type]


def _mask_like(values: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return torch.ones(values.numel(), dtype=torch.bool, device=values.device)
    return mask.expand_as(values).reshape(-1)
