"""What a recorder counts, and what it does not."""

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lossframe.losses import BatchAllTripletLoss, MSELoss


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("behind", [lambda value: value, lambda value: (3 * value).exp()])
def test_gradient_checkpointing_records_each_sample_once(reentrant: bool, behind: object) -> None:
    criterion, prediction = MSELoss(), torch.ones(8, requires_grad=True)

    def step(prediction: Tensor) -> Tensor:
        criterion.log("scale", prediction)
        return behind(criterion(prediction, torch.zeros(8)))  # type: ignore[operator]

    checkpoint(step, prediction, use_reentrant=reentrant).backward()
    assert {name: moments.count for name, moments in criterion.moments().items()} == {"scale": 8, "loss": 8}


def test_relational_loss_under_gradient_checkpointing_records_each_anchor_once() -> None:
    criterion, embeddings, labels = (
        BatchAllTripletLoss(),
        torch.randn(300, 4, requires_grad=True),
        torch.arange(300) % 3,
    )
    checkpoint(criterion, embeddings, labels, use_reentrant=True).backward()
    assert criterion.moments()["loss"].count == 300
