"""One loss of another library, and the inputs to compare it on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

N, C, D = 12, 4, 6
"""Numbers of samples, classes and features."""
Inputs = tuple[Any, ...]


@dataclass(frozen=True)
class Case:
    """`make()` gives the library's loss, `inputs()` its inputs; `options` are those of `NativeLoss`.

    `batch_dims` are the dimensions of the samples, of each input; the inputs at `differentiable` get gradients. `note`
    says why what the table shows cannot be better.
    """

    name: str
    make: Callable[[], Any]
    inputs: Callable[[], Inputs]
    options: dict[str, Any] = field(default_factory=dict)
    batch_dims: tuple[int, ...] = (0,)
    differentiable: tuple[int, ...] = (0,)
    dtype: torch.dtype = torch.float64
    note: str = ""

    def made(self) -> Any:
        """Return a new loss, the same in each process."""
        torch.manual_seed(0)
        loss = self.make()
        return loss.to(self.dtype) if isinstance(loss, nn.Module) else loss

    def shard(self, rows: slice) -> list[Any]:
        """Return the inputs of some samples, of which floating ones are leaves with gradient."""
        torch.manual_seed(1)
        found = []
        for k, value in enumerate(self.inputs()):
            dim = self.batch_dims[min(k, len(self.batch_dims) - 1)]
            part = value[(slice(None),) * dim + (rows,)] if isinstance(value, Tensor) and value.ndim else value
            floating = isinstance(part, Tensor) and part.is_floating_point()
            found.append(part.to(self.dtype).clone().requires_grad_(k in self.differentiable) if floating else part)
        return found


def scores(*shape: int) -> Tensor:
    """Return normal numbers of some samples."""
    return torch.randn(N, *shape)


def classes(*shape: int) -> Tensor:
    """Return class indices."""
    return torch.randint(0, C, (N, *shape))


def shares(*shape: int) -> Tensor:
    """Return numbers in `[0, 1]`."""
    return torch.rand(N, *shape)
