"""The triplets of a batch: all of them, the semi-hard ones, the hardest ones."""

import torch
from torch import Tensor

from lossframe import distributed
from lossframe.losses.algorithms import sorting
from lossframe.losses.algorithms.anchorwise import blocks
from lossframe.losses.algorithms.distances import Pairwise
from lossframe.losses.algorithms.label_groups import Partners
from lossframe.losses.base.tracing import is_traced


def hinges(distances: Tensor, partners: Partners, rows: slice, margin: float) -> tuple[Tensor, Tensor]:
    r"""Return for each anchor the sum of $\max(0, d(a, p) - d(a, n) + m)$ over its triplets, and how many are > 0.

    A limit $d(a, p) + m$ exceeds the negatives' distances before its place in their ascending order, and a negative
    falls short of the limits behind its own. With these numbers the sum is linear in the distances:
    $\sum_p v_p (d(a, p) + m) - \sum_n v_n d(a, n)$. $O(\log N)$ for each of the `[B, N]` distances. The second result
    has no gradient. A triplet exactly at the margin is not counted.
    """
    factors, active = _violations(distances.detach(), partners, rows, margin)
    return torch.linalg.vecdot(factors, distances) + margin * active, active


def _violations(distances: Tensor, partners: Partners, rows: slice, margin: float) -> tuple[Tensor, Tensor]:
    """Return how often each distance counts, and the numbers of violated triplets."""
    same, positive = partners.of(rows)
    negatives = _in_order(distances, same)
    limits = torch.where(positive, distances.gather(1, same) + margin, -torch.inf)
    before = torch.searchsorted(negatives.keys, sorting.keys(limits, torch.zeros_like(same)))
    before = before.clamp_max_(distances.shape[1] - 1)  # a limit of NaN may be behind all
    behind = limits.new_zeros(distances.shape).scatter_add_(1, before, torch.ones_like(limits))
    behind[:, :1] -= same.shape[1]  # minus the limits behind each place, once they are added up
    factors = _put(torch.empty_like(distances), negatives.columns(), behind.cumsum_(1))
    factors = _put(factors, same, before.to(factors.dtype))
    return factors, before.sum(1).to(factors.dtype)


def semi_hard(distances: Tensor, partners: Partners, rows: slice) -> tuple[Tensor, Tensor]:
    """Return $d(a, p) - d(a, n)$ for every positive, as `[B, P]`, and which entries are valid.

    The negative is the nearest one that is farther than the positive; where none is, the farthest one.
    """
    same, positive = partners.of(rows)
    negatives, of_positive = _in_order(distances.detach(), same), distances.gather(1, same)
    beyond = sorting.keys(of_positive.detach(), torch.full_like(same, sorting.BEHIND))
    farther = torch.searchsorted(negatives.keys, beyond, right=True)
    last = partners.negatives[rows, None] - 1
    chosen = negatives.columns().gather(1, torch.minimum(farther, last).clamp_min(0))
    return of_positive - distances.gather(1, chosen), positive & (last >= 0)


def _in_order(distances: Tensor, same: Tensor) -> sorting.Ordered:
    """Return each anchor's negatives in ascending order; its own class comes last."""
    place = torch.arange(distances.shape[1], device=distances.device)
    keys = _put(sorting.keys(distances, place), same, sorting.LAST + same)
    return sorting.Ordered(keys, distances.dtype)


def _put(rows: Tensor, columns: Tensor, values: Tensor | float) -> Tensor:
    """Put values into columns of rows: in place, unless a transform may map over the columns alone."""
    return rows.scatter(1, columns, values) if is_traced(rows) else rows.scatter_(1, columns, values)


def hardest(embeddings: Tensor, pairwise: Pairwise, partners: Partners, number: int | None = None) -> list[Tensor]:
    """Return the indices of each anchor's farthest positive and nearest negative; any where none is.

    The first `number` rows are anchors, by default all.
    """
    number = len(embeddings) if number is None else number
    own = distributed.own_part(number)
    chosen = []
    for rows in blocks(embeddings, own):
        columns, positive = partners.of(rows)
        distances = pairwise(embeddings[rows], embeddings, rows)
        farthest = torch.where(positive, distances.gather(1, columns), -torch.inf).argmax(1, keepdim=True)
        nearest = _put(distances, columns, torch.inf).argmin(1)
        chosen.append(torch.stack([columns.gather(1, farthest).squeeze(1), nearest]))
    return [distributed.assembled(part, own, number) for part in torch.cat(chosen, 1)]
