"""Samples against all others of the batch."""

import torch
from torch import Tensor

from lossframe.losses.algorithms.label_groups import Partners


def softmax_sums(similarities: Tensor, partners: Partners, rows: slice) -> tuple[Tensor, Tensor]:
    r"""Return $-\sum_p \log \frac{\exp s_{ap}}{\sum_{k \ne a} \exp s_{ak}}$ of each anchor, and how many $p$ it has.

    `similarities` is `[B, N]`, of the anchors in `rows` to everyone; those to themselves are lost.
    """
    columns, positive = partners.of(rows)
    number = positive.sum(1)
    if not similarities.numel():
        return similarities.sum(1), number
    itself = torch.arange(rows.start, rows.stop, device=similarities.device)[:, None]
    # not -inf: a batch of one sample has a sum over nobody, whose gradient would be NaN
    others = similarities.scatter_(1, itself, torch.finfo(similarities.dtype).min)
    lowest, nearest = torch.finfo(others.dtype).min, others.detach().argmax(1, keepdim=True)
    # relative to the largest, whose own term is a 1 before the logarithm: then no two terms cancel
    behind = (others - others.gather(1, nearest)).scatter_(1, nearest, lowest)
    excess = behind.exp().sum(1).log1p()
    of_positives = torch.where(positive & (columns != nearest), behind.gather(1, columns), 0).sum(1)
    return number * excess - of_positives, number
