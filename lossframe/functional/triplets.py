"""The triplets of a batch: all of them, the semi-hard ones, the hardest ones."""

from collections.abc import Callable

import torch
from torch import Tensor

from lossframe import distributed
from lossframe.functional import ordering
from lossframe.functional.blocks import blocks
from lossframe.functional.partners import Partners


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
    nearest, columns = _negatives(distances, same)
    limits = torch.where(positive, distances.gather(1, same) + margin, -torch.inf)
    before = torch.searchsorted(nearest, ordering.keys(limits, torch.zeros_like(same)))
    behind = torch.zeros_like(distances).scatter_add_(1, before, torch.ones_like(limits))
    behind[:, 0] -= same.shape[1]  # minus the limits behind each place, once they are added up
    factors = torch.empty_like(distances).scatter_(1, columns, behind.cumsum(1))
    factors.scatter_(1, same, before.to(factors.dtype))
    return factors, before.sum(1).to(factors.dtype)


def semi_hard(distances: Tensor, partners: Partners, rows: slice) -> tuple[Tensor, Tensor]:
    """Return $d(a, p) - d(a, n)$ for every positive, as `[B, P]`, and which entries are valid.

    The negative is the nearest one that is farther than the positive; where none is, the farthest one.
    """
    same, positive = partners.of(rows)
    nearest, columns = _negatives(distances.detach(), same)
    of_positive = distances.gather(1, same)
    beyond = ordering.keys(of_positive.detach(), torch.full_like(same, ordering.BEHIND))
    farther = torch.searchsorted(nearest, beyond, right=True)
    last = partners.negatives[rows, None] - 1
    chosen = columns.gather(1, torch.minimum(farther, last).clamp_min(0))
    return of_positive - distances.gather(1, chosen), positive & (last >= 0)


def _negatives(distances: Tensor, same: Tensor) -> tuple[Tensor, Tensor]:
    """Return the keys of each anchor's negatives in ascending order, and their columns; its class comes last."""
    place = torch.arange(distances.shape[1], device=distances.device)
    return ordering.sort(ordering.keys(distances, place).scatter_(1, same, ordering.LAST + same), distances.dtype)


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
