"""The triplets of a batch: all of them, the semi-hard ones, the hardest ones."""

from collections.abc import Callable

import torch
from torch import Tensor

from lossframe import distributed
from lossframe.functional.blocks import blocks
from lossframe.functional.partners import Partners
from lossframe.functional.search import count_not_above


def hinges(distances: Tensor, partners: Partners, rows: slice, margin: float) -> tuple[Tensor, Tensor]:
    r"""Return for each anchor the sum of $\max(0, d(a, p) - d(a, n) + m)$ over its triplets, and how many are > 0.

    The anchor's positives are sorted by their limit $d(a, p) + m$, and every negative finds by binary search how many
    limits it falls short of. With these counts the sum is linear in the distances: $\sum_p v_p (d(a, p) + m) - \sum_n
    v_n d(a, n)$. $O(\log P)$ for each of the `[B, N]` distances, where $P$ is the size of the largest class. The
    second result has no gradient. A triplet exactly at the margin is not counted.
    """
    columns, positive = partners.of(rows)
    fixed = distances.detach()
    limits, order = torch.where(positive, fixed.gather(1, columns) + margin, -torch.inf).sort(1)
    beyond = limits[:, -1:].clamp_min(0).expand_as(columns)
    missed = count_not_above(limits, fixed.scatter(1, columns, beyond))
    landed = missed.new_zeros(len(missed), partners.width + 1)
    violated = landed.scatter_add_(1, missed, missed.new_ones(()).expand_as(missed)).cumsum(1)[:, :-1]
    factors = missed.to(fixed.dtype) - partners.width
    factors.scatter_add_(1, columns.gather(1, order), violated.to(fixed.dtype))
    active = violated.sum(1).to(fixed.dtype)
    return torch.linalg.vecdot(factors, distances) + margin * active, active


def semi_hard(distances: Tensor, partners: Partners, rows: slice) -> tuple[Tensor, Tensor]:
    """Return $d(a, p) - d(a, n)$ for every positive, as `[B, P]`, and which entries are valid.

    The negative is the nearest one that is farther than the positive; where none is, the farthest one.
    """
    columns, positive = partners.of(rows)
    of_positive = distances.gather(1, columns)
    nearest, order = distances.detach().scatter(1, columns, torch.inf).sort(1)
    farther = torch.searchsorted(nearest, of_positive.detach(), right=True)
    last = partners.negatives[rows, None] - 1
    chosen = order.gather(1, torch.minimum(farther, last).clamp_min(0))
    return of_positive - distances.gather(1, chosen), positive & (last >= 0)


def hardest(embeddings: Tensor, partners: Partners, pairwise: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
    """Return the indices `[N]` of each anchor's farthest positive and nearest negative; any where none is."""
    chosen = []
    for rows in blocks(len(embeddings)):
        columns, positive = partners.of(rows)
        distances = pairwise(embeddings[rows], embeddings)
        farthest = torch.where(positive, distances.gather(1, columns), -torch.inf).argmax(1, keepdim=True)
        nearest = distances.scatter(1, columns, torch.inf).argmin(1)
        chosen.append((columns.gather(1, farthest).squeeze(1), nearest))
    n, mine = len(embeddings), distributed.own_part(len(embeddings))
    return [distributed.assembled(torch.cat(parts), mine, n) for parts in zip(*chosen, strict=True)]
