"""All triplets of a batch, exactly, in O(N^2 log N) time and O(N) memory per anchor.

For an anchor `a`, sort its negatives' distances once. A positive `p` is violated by exactly the negatives nearer than
`d(a, p) + margin`: their number is a binary search away, and their sum a prefix sum. So is the gradient: the number of
violations that each distance takes part in.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_BLOCK = 1 << 18
"""How many distances are held at a time."""


def anchor_sums(
    embeddings: Tensor, labels: Tensor, margin: float, pairwise: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Return, for each anchor, the sum of `relu(d(a, p) - d(a, n) + margin)` over its triplets, and how many are > 0.

    `embeddings` is `[N, D]`, `labels` `[N]`, `pairwise` gives differentiable distances `[B, N]`; both results are
    `[N]`, the second without gradient and in float64.
    """
    sums, active = _AnchorSums.apply(embeddings, labels, margin, pairwise)
    return sums, active


class _AnchorSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, embeddings: Tensor, labels: Tensor, margin: float, pairwise: Callable[[Tensor, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(embeddings, labels)
        ctx.margin, ctx.pairwise = margin, pairwise
        sums, active = [], []
        for rows in blocks(len(embeddings)):
            distances = pairwise(embeddings[rows], embeddings)
            block = _Block(distances, *_partners(labels, rows), margin)
            sums.append(block.sums().to(embeddings.dtype))
            active.append(block.violations.sum(1).double())
        empty = embeddings.new_zeros(0)
        result = torch.cat(sums) if sums else empty, torch.cat(active) if active else empty.double()
        ctx.mark_non_differentiable(result[1])
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        embeddings, labels = ctx.saved_tensors
        total = torch.zeros_like(embeddings)
        for rows in blocks(len(embeddings)):
            with torch.enable_grad():
                anchors = embeddings[rows].detach().requires_grad_()
                others = embeddings.detach().requires_grad_()
                distances = ctx.pairwise(anchors, others)
            block = _Block(distances.detach(), *_partners(labels, rows), ctx.margin)
            upstream = block.gradient().to(grad.dtype) * grad[rows, None]
            of_anchors, of_others = torch.autograd.grad(distances, (anchors, others), upstream)
            total += of_others
            total[rows] += of_anchors
        return total, None, None, None


def blocks(n: int) -> list[slice]:
    """Split `n` anchors so that a block of distances `[B, n]` stays small."""
    size = max(1, _BLOCK // max(n, 1))
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _partners(labels: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
    """Return which samples are positives, and which negatives, of the anchors in `rows`."""
    same = labels[rows, None] == labels[None, :]
    positive = same.clone()
    positive.diagonal(rows.start).fill_(False)
    return positive, ~same


class _Block:
    """The triplets of some anchors: `violations[a, j]` counts the negatives that violate the positive `j`."""

    def __init__(self, distances: Tensor, positive: Tensor, negative: Tensor, margin: float) -> None:
        self.positive = positive
        self.nearest, self.order = torch.where(negative, distances, torch.inf).sort(1)
        self.limits = torch.where(positive, distances + margin, -torch.inf)
        self.violations = torch.searchsorted(self.nearest, self.limits)

    def sums(self) -> Tensor:
        """Return the sum of the hinges of each anchor, in float64."""
        finite = torch.where(self.nearest.isfinite(), self.nearest, 0).double()
        prefix = torch.nn.functional.pad(finite.cumsum(1), (1, 0))
        hinges = self.violations * self.limits.double() - prefix.gather(1, self.violations)
        return torch.where(self.violations > 0, hinges, 0.0).sum(1)

    def gradient(self) -> Tensor:
        """Return the derivative of each anchor's sum by its distances: violations, signed."""
        width = self.violations.shape[1]
        ends = torch.zeros(len(self.violations), width + 1, dtype=torch.int64, device=self.violations.device)
        ends.scatter_add_(1, self.violations, self.positive.long())
        beyond = ends.sum(1, keepdim=True) - ends.cumsum(1)[:, :width]
        return self.violations - torch.empty_like(beyond).scatter_(1, self.order, beyond)


def same_label_counts(labels: Tensor) -> Tensor:
    """Return, for each sample `[N]`, how many samples carry its label, itself included; without a host sync."""
    ordered = labels.sort().values
    return torch.searchsorted(ordered, labels, right=True) - torch.searchsorted(ordered, labels)


def number(labels: Tensor) -> Tensor:
    """Return how many triplets the batch has, as a float64 scalar."""
    same = same_label_counts(labels).double()
    return ((same - 1) * (len(labels) - same)).sum()


def hardest(embeddings: Tensor, labels: Tensor, pairwise: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Return, for each anchor, the index of its farthest positive and of its nearest negative; any where none is."""
    positives, negatives = [], []
    for rows in blocks(len(embeddings)):
        distances = pairwise(embeddings[rows], embeddings)
        positive, negative = _partners(labels, rows)
        positives.append(torch.where(positive, distances, -torch.inf).argmax(1))
        negatives.append(torch.where(negative, distances, torch.inf).argmin(1))
    return torch.cat(positives), torch.cat(negatives)
