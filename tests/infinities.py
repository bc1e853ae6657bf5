"""Values and gradients of losses of infinite logits, in batches evaluated at once and a few scores at a time."""

from typing import Any

import pytest
import torch
from torch import Tensor

from lossframe import Loss, chunks
from lossframe.losses.algorithms import rowwise, softmax

INF = torch.inf


@pytest.fixture(autouse=True, params=["small", "large"])
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluate batches at once, or as large ones are, a few scores at a time."""
    if request.param == "large":

        def small(tensor: Tensor, per_thread: int) -> list[slice]:
            return chunks.blocks(tensor, max(1, tensor.numel() // 3 // torch.get_num_threads()))

        monkeypatch.setattr(rowwise, "blocks", small)
        monkeypatch.setattr(softmax, "blocks", small)
        monkeypatch.setattr(softmax, "SCORES_PER_THREAD", 2)


def evaluate(criterion: Loss, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the values, and the gradient of the sum of those that are finite."""
    logits = logits.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    values = criterion.loss(logits, target)
    (gradient,) = torch.autograd.grad(values, logits, values.isfinite().to(values.dtype))
    return values.detach(), gradient


def at(dtype: torch.dtype, *numbers: Any) -> Tensor:
    return torch.tensor(numbers, dtype=dtype)


both = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
