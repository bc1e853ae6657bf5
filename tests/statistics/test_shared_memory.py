"""Recorded values stay as they were, whatever happens later to the tensors that a formula returned or logged."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lossframe import Loss, NativeLoss

N = 6
CONTEXTS: dict[str, Callable[[], Any]] = {
    "grad": nullcontext, "no_grad": torch.no_grad, "inference": torch.inference_mode
}  # fmt: skip


class Holder(Loss):
    """Returns and logs what `pick` finds in the inputs, the loss and the tensors around."""

    def __init__(self, pick: Callable[["Holder", Tensor], Tensor]) -> None:
        super().__init__()
        self.pick = pick
        self.weights = nn.Parameter(torch.arange(1.0, N + 1))
        self.register_buffer("kept", torch.arange(1.0, N + 1))
        self.array = np.arange(1.0, N + 1, dtype=np.float32)
        self.around = [torch.arange(1.0, N + 1)]
        self.trained = [torch.arange(1.0, N + 1, requires_grad=True)]

    def loss(self, prediction: Tensor) -> Tensor:
        found = self.pick(self, prediction)
        self.log("logged", found)
        return found


RETURNED: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "input": lambda loss, x: x,
    "view of the input": lambda loss, x: x.view(2, 3)[:, 1],
    "detached input": lambda loss, x: x.detach(),
    "data of the input": lambda loss, x: x.data,
    "memory of the input": lambda loss, x: torch.from_numpy(x.detach().numpy()),
    "in place": lambda loss, x: x.detach().mul_(1),
    "parameter": lambda loss, x: loss.weights,
    "view of a parameter": lambda loss, x: loss.weights[1:4],
    "memory of a parameter": lambda loss, x: torch.from_numpy(loss.weights.detach().numpy()),
    "buffer": lambda loss, x: loss.kept,
    "expanded buffer": lambda loss, x: loss.kept[:1].expand(4),
    "array": lambda loss, x: torch.from_numpy(loss.array),
    "tensor around": lambda loss, x: loss.around[0],
    "part of a tensor around": lambda loss, x: loss.around[0][::2],
    "trained tensor around": lambda loss, x: loss.trained[0],
    "view of a trained tensor": lambda loss, x: loss.trained[0].view(3, 2).T,
    "half": lambda loss, x: loss.around[0].half(),
    "fresh": lambda loss, x: x * 2,
}


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("returned", RETURNED)
def test_tensors_changed_after_a_call_change_no_statistic(returned: str, requires_grad: bool, context: str) -> None:
    criterion = Holder(RETURNED[returned])
    x = torch.arange(1.0, N + 1, requires_grad=requires_grad)
    with CONTEXTS[context]():
        result = criterion(x)
    before = RETURNED[returned](criterion, x.detach()).float().mean().item()
    with torch.no_grad():
        for tensor in (x, criterion.weights, criterion.kept, *criterion.around, *criterion.trained):
            tensor.fill_(1e6)  # type: ignore[operator]
        criterion.array[:] = 1e6
    if not result.is_inference():
        result.detach().fill_(1e6)
    assert criterion.avg == pytest.approx({"loss": before, "logged": before})


@pytest.mark.parametrize("number", [3, 70_000])
def test_closures_tensor_changed_after_a_call_changes_no_statistic(number: int) -> None:
    kept = torch.ones(number)
    criterion = NativeLoss(lambda prediction, target: kept, relational=False)
    criterion(torch.ones(number), torch.zeros(number))
    kept.fill_(7)
    criterion(torch.ones(number), torch.zeros(number))
    assert criterion.avg == {"loss": 4}


def test_reduction_none_returns_values_whose_change_changes_no_statistic() -> None:
    for number in (3, 70_000):
        for requires_grad in (False, True):
            criterion = NativeLoss(lambda p, t: (p - t).abs(), relational=False, reduction="none")
            values = criterion(torch.ones(number, requires_grad=requires_grad), torch.zeros(number))
            values.detach().fill_(7)
            assert criterion.avg == {"loss": 1}
