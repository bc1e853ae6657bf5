"""Samples against all others of the batch."""

import torch
from torch import Tensor

from lossframe.losses.algorithms.label_groups import Partners


def softmax_sums(similarities: Tensor, partners: Partners, rows: slice) -> tuple[Tensor, Tensor]:
    r"""Return $-\sum_p \log \frac{\exp s_{ap}}{\sum_{k \ne a} \exp s_{ak}}$ of each anchor, and how many $p$ it has.

    `similarities` is `[B, N]`, of the anchors in `rows` to everyone; those to themselves are lost.
    """
    columns, positive = partners.of(rows)
    itself = torch.arange(rows.start, rows.stop, device=similarities.device)[:, None]
    # not -inf: a batch of one sample has a sum over nobody, whose gradient would be NaN
    others = similarities.scatter_(1, itself, torch.finfo(similarities.dtype).min)
    of_positives = torch.where(positive, others.gather(1, columns), 0).sum(1)
    number = positive.sum(1)
    return number * others.logsumexp(1) - of_positives, number
