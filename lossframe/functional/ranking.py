"""Sums over all pairs of a positive and a negative, in O(N log N) time."""

import math

import torch
from torch import Tensor


def pair_sums(scores: Tensor, positive: Tensor, margin: float, power: int) -> Tensor:
    r"""Return $\sum_j \max(0, m - (s_i - s_j))^k$ over the negatives $j$, for each score $s_i$ `[M]`, in float64.

    For the sorted scores, the violating negatives are those from a binary search on. With $a = m - s_i$,
    $(a + s_j)^k = \sum_q \binom{k}{q} a^{k - q} s_j^q$, and the sums of $s_j^q$ from there on are suffix sums. Scores
    are centred first: powers of a common offset would cancel.
    """
    scores = scores.double()
    scores = scores - scores.detach().sum() / max(len(scores), 1)
    ordered, order = scores.sort()
    negative = (~positive)[order].double()
    first = torch.searchsorted(ordered.detach(), scores.detach() - margin, right=True)
    reach = margin - scores
    terms = [
        math.comb(power, q) * reach.pow(power - q) * _suffix_sums(negative * ordered.pow(q))[first]
        for q in range(power + 1)
    ]
    return torch.stack(terms).sum(0)


def _suffix_sums(x: Tensor) -> Tensor:
    return torch.nn.functional.pad(x.flip(0).cumsum(0).flip(0), (0, 1))
