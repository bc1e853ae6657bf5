"""Weighs and reduces values, with the semantics of `tf.contrib.losses.compute_weighted_loss`."""

import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from lossframe import distributed
from lossframe.errors import InputError, names, nearest
from lossframe.losses.base.inputs import Batch

Reduction = Literal["mean", "sum", "none", "weighted_mean", "batch_mean", "element_mean"]
REDUCTIONS: tuple[str, ...] = get_args(Reduction)
OVER_ALL = ("none", "batch_mean", "element_mean")
"""Reductions whose result depends on how many samples of weight 0 there are."""
_ELSEWHERE = {
    "elementwise_mean": "element_mean",
    "sum_over_batch_size": "element_mean",
    "sum_by_nonzero_weights": "mean",
    "mean_with_sample_weight": "weighted_mean",
    "batchmean": "batch_mean",
}
"""Names of reductions in torch, Keras, tf.losses and tf.contrib -> the names of these reductions here."""


def check_reduction(reduction: Reduction) -> Reduction:
    """Return `reduction`, or raise an `InputError` unless it is one of `REDUCTIONS`."""
    if reduction not in REDUCTIONS:
        given = "none" if reduction is None else str(reduction).lower()
        meant = nearest(_ELSEWHERE.get(given, given), REDUCTIONS)
        raise InputError(f"reduction {reduction!r} is unknown; it is one of {names(REDUCTIONS)}.{meant}")
    return reduction


def align(weight: Tensor | float, values: Tensor) -> Tensor:
    """Reshape a weight so that it broadcasts against `values` from the left.

    A scalar or `[1]` weighs everything alike; `[N]` weighs the rows of `[N, ...]`; `[N, d1]` weighs
    `[N, d1, ...]`; a dimension of size 1 broadcasts; a trailing 1 beyond the rank of the values is dropped.
    Anything else is an `InputError`.

    >>> align(torch.ones(4), torch.zeros(4, 3)).shape
    torch.Size([4, 1])
    """
    dtype = values.dtype if values.is_floating_point() else torch.float32
    aligned = torch.as_tensor(weight, dtype=dtype, device=values.device)
    if aligned.shape == (1,):
        aligned = aligned.reshape(())
    while aligned.ndim > values.ndim and aligned.shape[-1] == 1:
        aligned = aligned.squeeze(-1)
    fits = aligned.ndim <= values.ndim and all(w in (1, v) for w, v in zip(aligned.shape, values.shape, strict=False))
    if not fits:
        raise InputError(
            f"weight {list(torch.as_tensor(weight).shape)} does not fit values {list(values.shape)}; give a scalar, "
            "one weight per sample, or one per value (dimensions are matched from the left)"
        )
    return aligned.reshape(*aligned.shape, *([1] * (values.ndim - aligned.ndim))) if aligned.ndim else aligned


def weigh(values: Tensor, weight: Tensor | None, mask: Tensor | None) -> Tensor:
    """Return values times an aligned weight, exactly 0 outside the mask, where values may be NaN or infinite."""
    values = values if mask is None else torch.where(mask, values, 0)
    return values if weight is None else weight * values


@dataclass(slots=True)
class Weighed:
    """Weighted values of a batch, with what their reduction needs.

    `values` are `w v`, 0 where a value does not count; `weight` is aligned with them, `counts` is the result of
    `Loss.counts`, and `mask` marks the values that count. None stands for 1, or for true, everywhere. Each value stands
    for `times` values. `numbers` are the shares of anchors in the mean, see `Loss.averaged_over`.
    """

    values: Tensor
    weight: Tensor | None
    counts: Tensor | None
    mask: Tensor | None
    times: Tensor | float = 1.0
    numbers: Tensor | None = None

    def restored(self, kept: Tensor) -> "Weighed":
        """Return values of all samples: these values for the samples that `kept` marks, and 0 for the others."""
        if not self.values.ndim:
            return self
        rows = torch.where(kept, kept.long().cumsum(0) - 1, len(self.values))
        padded = torch.cat([self.values, self.values.new_zeros(1, *self.values.shape[1:])])
        return replace(self, values=padded[rows])


def weighed(
    values: Tensor, batch: Batch, per_sample: bool, times: Tensor | float = 1.0, numbers: Tensor | None = None
) -> Weighed:
    """Weigh the values of a batch, each of which stands for `times` values; of an empty batch none counts.

    `per_sample` says whether each row of a relational loss's values is a sample.
    """
    weight = batch.weight
    if batch.kept is not None and isinstance(weight, Tensor):
        weight = _weight_of_values(values, weight, per_sample)
    aligned = None if weight is None else align(weight, values)
    mask = None if aligned is None else aligned != 0
    if batch.counts is not None:
        mask = batch.counts != 0 if mask is None else mask & (batch.counts != 0)
    nothing = batch.kept is not None and isinstance(batch.weight, Tensor) and not batch.weight.numel()
    if nothing or (is_none(times) and (batch.count is None or distributed.world_size() > 1)):
        mask = torch.zeros((), dtype=torch.bool, device=values.device)  # no sample counts: a mean of nothing may be NaN
    return Weighed(weigh(values, aligned, mask), aligned, batch.counts, mask, times, numbers)


def product(weight: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Multiply two weights, 0 where the first is 0; None stands for 1."""
    if weight is None or other is None:
        return weight if other is None else other
    return torch.where(weight != 0, weight * other, 0)


def _weight_of_values(values: Tensor, weight: Tensor, per_sample: bool) -> Tensor | None:
    """Return the weights of a relational loss's values; None for one value per batch, where weights are only 0 or 1."""
    if per_sample and values.ndim and len(values) == len(weight):
        return weight
    if bool((weight == 1).all()):
        return None
    raise InputError("gives one value for the whole batch: a sample's weight can only be 0 or 1, found others")


def fraction(
    weighted: Tensor, weight: Tensor | None, reduction: Reduction, counts: Tensor | None = None
) -> tuple[Tensor, Tensor | float]:
    """Return numerator and denominator of a reduction over `weighted = w v`, the latter as a float if it is constant.

    The numerator is always the sum. The denominator is the number of values whose weight is not 0 ("mean"),
    the sum of the weights ("weighted_mean"), the batch size ("batch_mean"), the number of all values ("element_mean")
    or 1 ("sum"). `counts` says how many elementary penalties each value stands for (default 1 each; 0 excludes a
    value); the first two denominators count these.
    Sums over ranks of both parts give the same fraction as one process would.
    """
    numerator = weighted.sum()
    if reduction == "sum":
        return numerator, 1.0
    if reduction == "batch_mean":
        return numerator, float(weighted.shape[0] if weighted.ndim else 1)
    if reduction == "element_mean":
        return numerator, float(weighted.numel())
    if weight is not None:
        weighs = weight if reduction == "weighted_mean" else weight != 0
        counts = weighs if counts is None else counts * weighs
    if counts is None:
        return numerator, float(weighted.numel())
    # counts broadcast to the values: each count belongs to equally many values
    return numerator, counts.sum(dtype=numerator.dtype) * (weighted.numel() / max(counts.numel(), 1))


def divide(numerator: Tensor, denominator: Tensor | float) -> Tensor:
    """Divide; where the denominator is 0, return 0 with a gradient of 0."""
    if isinstance(denominator, float):
        return numerator / denominator if denominator else numerator * 0
    empty = denominator == 0
    return torch.where(empty, numerator * 0, numerator / torch.where(empty, 1, denominator))


class Reduced(NamedTuple):
    """Reduced loss of all ranks, and how many values it averages: 1 for a sum."""

    result: Tensor
    denominator: Tensor | float


def over_ranks(weighed: Weighed, weight: Tensor | None, reduction: Reduction, sharded: bool) -> Reduced:
    """Reduce weighted values; reduce `sharded` values over all ranks, with one collective unless it is "none"."""
    if reduction == "none":
        return Reduced(weighed.values, 1.0)
    sharded = sharded and distributed.world_size() > 1
    values, times = weighed.values, 1.0 if reduction == "sum" else weighed.times
    numerator, denominator = fraction(values, weight, reduction, weighed.counts)
    number = denominator * times
    if sharded:
        if isinstance(times, Tensor) or times != 1:  # ranks of more samples weigh more
            values, numerator = values * times, numerator * times
        local = torch.as_tensor(number, dtype=numerator.dtype, device=numerator.device)
        numerator, summed = distributed.total(torch.stack([numerator, local])).unbind()
        denominator = number = 1.0 if reduction == "sum" else summed
    result = divide(numerator, denominator)
    if result.is_cpu and math.isinf(result.item()):  # the sum overflows, perhaps the mean does not
        parts = divide(values, denominator).sum()
        result = distributed.total(parts) if sharded else parts
    return Reduced(result, number)


def is_finite(result: Tensor) -> bool:
    """Return whether a result is finite; a sum of finite values that overflows is not."""
    return math.isfinite((result.sum() if result.ndim else result).item())


def is_none(times: Tensor | float) -> bool:
    """Return whether values are known to stand for no value; a tensor on a device is not read."""
    return not isinstance(times, Tensor) and times == 0


def reduce(values: Tensor, weight: Tensor | float | None = None, reduction: Reduction = "mean") -> Tensor:
    """Reduce unreduced losses under weights that are aligned from the left.

    | reduction | result | example | known as |
    |---|---|---|---|
    | `mean` (default) | `sum(w v) / #(w != 0)` | 3.125 | `SUM_BY_NONZERO_WEIGHTS` of tf.losses |
    | `weighted_mean` | `sum(w v) / sum(w)` | 2.5 | `mean_with_sample_weight` of Keras, class weights in torch |
    | `element_mean` | `sum(w v) / #v` | 2.0833 | `sum_over_batch_size` of Keras, `(values * mask).mean()` |
    | `batch_mean` | `sum(w v) / N` | 4.1667 | `batchmean` of torch's `KLDivLoss` |
    | `sum` | `sum(w v)` | 12.5 | `sum` everywhere |
    | `none` | `w v` | `[[8, 2], [1, 1.5], [0, 0]]` | `none` everywhere, `None` in Keras |

    The example has the values `[[4, 1], [2, 3], [5, 6]]` and the weights `[2, 0.5, 0]`. `#v` and `N` are the numbers of
    all values and of all samples, those of weight 0 and ignored targets included. Negative weights count as any other;
    with no value left the result is a zero that still carries gradient. `values` is `[N, ...]` or a scalar, which is
    one value.

    Coming from tf.contrib.losses `compute_weighted_loss`: the same.

    >>> values, weight = torch.tensor([[4.0, 1.0], [2.0, 3.0], [5.0, 6.0]]), torch.tensor([2.0, 0.5, 0.0])
    >>> for reduction in ("mean", "weighted_mean", "element_mean", "batch_mean", "sum"):
    ...     print(reduction, reduce(values, weight, reduction))
    mean tensor(3.1250)
    weighted_mean tensor(2.5000)
    element_mean tensor(2.0833)
    batch_mean tensor(4.1667)
    sum tensor(12.5000)
    """
    check_reduction(reduction)
    aligned = None if weight is None else align(weight, values)
    weighted = weigh(values, aligned, None if aligned is None else aligned != 0)
    return weighted if reduction == "none" else divide(*fraction(weighted, aligned, reduction))
