"""`NativeLoss` wraps any callable or `nn.Module` criterion as a `Loss`."""

from collections import namedtuple
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lossframe import InputError, NativeLoss

Pair = namedtuple("Pair", "out aux")


def test_native_loss_wraps_functions_and_modules() -> None:
    def native(y_pred: Pair, y_true: dict[str, Tensor], log_val: Any) -> Tensor:
        log_val("aux", y_pred.aux.abs())
        return ((y_pred.out - y_true["lab"]) ** 2).mean()

    criterion = NativeLoss(native)
    value = criterion(Pair(torch.tensor([1.0, 3.0]), torch.tensor([-2.0])), {"lab": torch.zeros(2)})
    assert value.item() == 5
    assert criterion.avg == {"aux": 2.0, "loss": 5.0}
    optional = NativeLoss(lambda y_pred, y_true, log_val=None: log_val("first", y_pred[0]) or y_pred - y_true)
    optional(torch.tensor([1.0, 2.0]), torch.zeros(2))
    assert optional.avg == {"first": 1.0, "loss": 1.5}
    logits, target = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, -100, 1])
    for module in (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0])), nn.CrossEntropyLoss(reduction="sum")):
        assert torch.equal(NativeLoss(module)(logits, target), module(logits, target))
    elementwise = NativeLoss(nn.SmoothL1Loss(beta=0.5), log_std=True)
    assert elementwise(logits, logits + 1).item() == pytest.approx(0.75)
    assert elementwise.moments()["loss"].count == 18


class Mined(nn.Module):
    """The signature of pytorch-metric-learning's losses."""

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: Any = None, ref_emb: Any = None) -> Tensor:
        assert indices_tuple is None
        return embeddings[labels == 0].norm()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("function", [F.cross_entropy, F.huber_loss, F.mse_loss, Mined(), torch.dist])
def test_optional_third_parameter_keeps_its_default(function: Any) -> None:
    prediction, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 1])
    target = prediction + 2 if function in (F.huber_loss, F.mse_loss, torch.dist) else labels
    assert torch.equal(NativeLoss(function)(prediction, target), function(prediction, target))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(
    "criterion",
    [
        nn.L1Loss, nn.MSELoss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCELoss, nn.BCEWithLogitsLoss, nn.SoftMarginLoss,
        nn.PoissonNLLLoss, nn.MultiLabelSoftMarginLoss,
    ],
)  # fmt: skip
def test_elementwise_criterion_refuses_inputs_that_broadcast(criterion: Any, reduction: str) -> None:
    native, prediction, target = criterion(reduction=reduction), torch.rand(8, 3), torch.randint(0, 2, (8, 3)).float()
    torch.testing.assert_close(NativeLoss(native)(prediction, target), native(prediction, target))
    with pytest.raises(
        InputError, match=r"NativeLoss: wanted equal shapes, found prediction \[8, 1\] and target \[8\]"
    ):
        NativeLoss(native)(torch.rand(8, 1), torch.ones(8))


def test_subclass_of_an_elementwise_criterion_may_be_relational() -> None:
    class RootMeanSquare(nn.MSELoss):
        def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
            return super().forward(prediction, target).sqrt()

    criterion = NativeLoss(RootMeanSquare(), relational=True)
    assert criterion.relational
    assert criterion(torch.tensor([1.0, 7.0]), torch.zeros(2)).item() == 5
