"""Samples against all others of the batch."""

import torch
from torch import Tensor

from lossframe.functional.partners import Partners


def softmax_sums(similarities: Tensor, partners: Partners, rows: slice) -> tuple[Tensor, Tensor]:
    r"""Return $-\sum_p \log \frac{\exp s_{ap}}{\sum_{k \ne a} \exp s_{ak}}$ of each anchor, and how many $p$ it has.

    `similarities` is `[B, N]`, of the anchors in `rows` to everyone.
    """
    columns, positive = partners.of(rows)
    of_positives = torch.where(positive, similarities.gather(1, columns), 0).sum(1)
    itself = torch.arange(rows.start, rows.stop, device=similarities.device)[:, None]
    # not -inf: a batch of one sample has a sum over nobody, whose gradient would be NaN
    others = similarities.scatter(1, itself, torch.finfo(similarities.dtype).min)
    number = positive.sum(1)
    return number * others.logsumexp(1) - of_positives, number
