"""Who is of one class with whom in a batch, without waiting for a GPU."""

import torch
from torch import Tensor

from lossframe.losses.base.tracing import is_readable


class Partners:
    """The samples that carry each sample's label, as `width` columns."""

    def __init__(self, labels: Tensor) -> None:
        labels = labels.reshape(-1).contiguous()
        ordered, order = labels.sort()
        self.start = torch.searchsorted(ordered, labels)
        self.count = torch.searchsorted(ordered, labels, right=True) - self.start
        width = len(labels)
        if labels.numel() and is_readable(labels):
            width = int(self.count.max())  # on a GPU, reading it would wait
        self.place = torch.arange(len(labels), device=labels.device)
        self.groups = torch.cat([order, order[:width]]).unfold(0, width, 1)  # from each start on, with some of the next

    def of(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Return the columns `[B, width]` of the class of each row, and which of them are positives of it.

        What is no positive, for want of members of the class, points at the row itself.
        """
        itself = self.place[rows, None]
        inside = self.place[: self.groups.shape[1]] < self.count[rows, None]
        columns = torch.where(inside, self.groups[self.start[rows]], itself)
        return columns, columns != itself

    @property
    def positives(self) -> Tensor:
        """The number of positives of each sample."""
        return self.count - 1

    @property
    def negatives(self) -> Tensor:
        """The number of negatives of each sample."""
        return len(self.count) - self.count

    @property
    def triplets(self) -> Tensor:
        """The number of triplets of each sample as their anchor, in float64."""
        return self.positives.double() * self.negatives
