"""Computes the values that a loss records, and how many values each of them stands for.

Recorded means recombine over batches and ranks: the mean of one batch is the reduced loss ("mean", "weighted_mean"),
and the mean of many batches of a loss whose values depend on one sample each is that of one big batch.
"""

import warnings
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from lossframe.losses.base.inputs import Batch, first_batched
from lossframe.losses.base.reduction import Reduced, Reduction, Weighed, product
from lossframe.statistics import series
from lossframe.statistics.accumulator import Counts, unwrapped

if TYPE_CHECKING:
    from lossframe.losses.base.loss import Loss


class Standing(NamedTuple):
    """Values to record, how many values each stands for, and the total of these if it differs from the denominator."""

    values: Tensor
    counts: Counts
    total: Tensor | None = None


def samples_of(loss: "Loss", values: Tensor, batch: Batch) -> Tensor | float:
    """Return how many values each value of a loss stands for: of a single number, as a mean, the batch's samples.

    A loss without values per sample, such as kappa, gives one value for each batch that is not empty.
    """
    if batch.count is None and loss.per_sample and values.numel() != 1:
        return 1.0
    if batch.count is None and not loss.per_sample:
        return min(_number(batch), 1.0)
    times = _number(batch) if batch.count is None else batch.count
    if values.numel() == 1 and not loss.warned and (isinstance(times, Tensor) or times > 1):
        _warn_of_spread(loss)
    return times


def _number(batch: Batch) -> float:
    """Return the number of samples in a batch; 1 without an input that has a batch dimension."""
    first = first_batched(batch.inputs)
    return 1.0 if first is None else float(len(first))


def _warn_of_spread(loss: "Loss") -> None:
    """Warn once of a loss that shows the spread of its values, but has a single number for each batch."""
    shown = [each.suffix for each in series.SERIES if each.option and getattr(loss, each.option)]
    if shown:
        loss.warned = True
        warnings.warn(
            f"{type(loss).__name__}: {', '.join(shown)} are those of batch means, because the loss gives one number "
            "for each batch. Return unreduced values, as NativeLoss(..., unreduced=True) lets a criterion with a "
            "`reduction` do, or select only the mean; `count` of a call is the number of values that a mean stands for",
            stacklevel=2,
        )


def balanced(numbers: Tensor, present: Tensor) -> Tensor:
    """Scale the numbers of penalties of present values so that they sum to the number of present values.

    A batch then counts by its samples, whose pairs and triplets grow faster. Numbers that are all 0 become 1 each.
    """
    numbers, total = numbers.double(), numbers.sum(dtype=torch.float64)
    scaled = numbers * (present.sum() / torch.where(total == 0, 1, total))
    return torch.where(total == 0, present.to(scaled.dtype), scaled)


def recorded(weighed: Weighed, reduction: Reduction, carried: Tensor | None, relational: bool) -> Standing:
    """Return what to record of weighed values. `carried` is the weight that values carry beside the caller's.

    A value with a share of its own in the denominator of the mean is divided by this share, which is then its count.
    """
    values, counts, of_weights = weighed.values.detach(), weighed.counts, reduction == "weighted_mean"
    if weighed.numbers is None and not of_weights and (counts is None or counts.dtype == torch.bool):
        return Standing(values, _times(weighed.mask, weighed.times))  # the plain case, which costs little
    share, factor = _share(weighed, relational and not of_weights)
    if of_weights:
        share = product(share, product(weighed.weight, carried))
    if share is None:
        return Standing(values, _times(weighed.mask, weighed.times))
    share = share.detach().abs()
    share = share if weighed.mask is None else torch.where(weighed.mask, share, 0)
    if weighed.numbers is not None:  # of NaN no pair or triplet is active, and it must not go unnoticed
        share = torch.where(values.isfinite(), share, 1)
    means = values * factor / torch.where(share == 0, 1, share)
    total = share.sum() * (values.numel() / max(share.numel(), 1)) if relational and not of_weights else None
    return Standing(means.to(values.dtype), _times(share, weighed.times), total)


def denominator(stands: Standing, reduced: Reduced, reduction: Reduction) -> Tensor | float:
    """Return how many values a reduced loss averages, for the mean over calls: 1 for a sum."""
    found = stands.total if stands.total is not None and reduction == "mean" else reduced.denominator
    return unwrapped(found).abs() if isinstance(found, Tensor) else found


def _share(weighed: Weighed, balance: bool) -> tuple[Tensor | None, Tensor | float]:
    """Return the share of each value in the denominator of the mean, None for 1, and the factor that it brings."""
    if weighed.numbers is not None:
        return weighed.numbers, weighed.numbers.sum() / max(len(weighed.numbers), 1)
    counts = weighed.counts
    if counts is None or counts.dtype == torch.bool:
        return None, 1.0
    if not balance:
        return counts, 1.0
    total = counts.sum(dtype=torch.float64)
    share = balanced(counts, counts != 0)
    return share, share.sum() / torch.where(total == 0, 1, total)


def _times(counts: Tensor | None, times: Tensor | float) -> Counts:
    if not isinstance(times, Tensor) and times == 1:
        return counts
    return times if counts is None else counts * times
