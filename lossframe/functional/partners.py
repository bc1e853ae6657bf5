"""Who is of one class with whom in a batch, without waiting for a GPU."""

import torch
from torch import Tensor


class Partners:
    """The samples that carry each sample's label, as `width` columns."""

    def __init__(self, labels: Tensor) -> None:
        labels = labels.reshape(-1).contiguous()
        ordered, self.order = labels.sort()
        self.start = torch.searchsorted(ordered, labels)
        self.count = torch.searchsorted(ordered, labels, right=True) - self.start
        self.width = len(labels)
        if labels.numel() and labels.device.type == "cpu" and not torch.compiler.is_compiling():
            self.width = int(self.count.max())  # on a GPU, reading it would wait

    def of(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Return the columns `[B, width]` of the class of each row, and which of them are positives of it.

        What is no positive, for want of members of the class, points at the row itself.
        """
        number = torch.arange(self.width, device=self.order.device)
        inside = number < self.count[rows, None]
        itself = torch.arange(rows.start, rows.stop, device=self.order.device)[:, None]
        places = (self.start[rows, None] + number).clamp_max_(len(self.order) - 1)
        columns = torch.where(inside, self.order[places], itself)
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
