"""With as many classes as positions and samples, losses work along the right dims, as plain float64 formulae do."""

import pytest
import torch
from torch import Tensor

from lossframe import Loss, chunks, losses
from lossframe.losses.algorithms import rowwise, softmax

SHAPES = [(n,) * ndim for n in (2, 3, 4) for ndim in (2, 3, 4)]


@pytest.fixture(autouse=True, params=["small", "large"])
def _size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluate batches at once, or as large ones are, a few scores at a time."""
    torch.manual_seed(0)
    if request.param == "large":
        for module in (rowwise, softmax):
            monkeypatch.setattr(module, "blocks", lambda tensor, _: chunks.blocks(tensor, 1))
        monkeypatch.setattr(softmax, "SCORES_PER_THREAD", 2)


def assert_same(criterion: Loss, wanted: Tensor, logits: Tensor, target: Tensor) -> None:
    """Compare values, and the gradient of a weighted sum of them."""
    values = criterion.loss(logits, target)
    weight = torch.rand_like(values)
    of_both = [torch.autograd.grad(v, logits, weight, retain_graph=True)[0] for v in (values, wanted)]
    torch.testing.assert_close([values, of_both[0]], [wanted, of_both[1]], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_losses_of_classes_equal_sums_over_dim_1(shape: tuple[int, ...]) -> None:
    n, logits = shape[1], torch.randn(shape, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(n, dtype=torch.float64)
    log_p = logits - logits.exp().sum(1, keepdim=True).log()
    along = weight.reshape(-1, *[1] * (len(shape) - 2))
    indices = torch.randint(0, n, (n, *shape[2:]))
    one_hot = (indices.unsqueeze(1) == torch.arange(n).reshape(-1, *[1] * (len(shape) - 2))).double()
    soft = torch.rand(shape, dtype=torch.float64).softmax(1)
    ignored = indices == n - 1
    for target, y in ((indices, one_hot), (soft, soft)):
        cross_entropy = -(along * y * log_p).sum(1)
        assert_same(losses.CrossEntropyLoss(class_weight=weight), cross_entropy, logits, target)
        smooth = 0.8 * y + 0.2 / n
        assert_same(losses.CrossEntropyLoss(0.2, weight), -(along * smooth * log_p).sum(1), logits, target)
        focal = -(along * y * (1 - log_p.exp()).square() * log_p).sum(1)
        assert_same(losses.FocalLoss(2.0, weight), focal, logits, target)
    counted = torch.where(ignored, 0, -(along * one_hot * log_p).sum(1))
    criterion = losses.CrossEntropyLoss(class_weight=weight, ignore_index=n - 1)
    assert_same(criterion, counted, logits, indices)
    assert torch.equal(losses.CategoricalAccuracy().loss(logits, indices), (logits.argmax(1) == indices).double())


@pytest.mark.parametrize("shape", SHAPES)
def test_positive_weights_of_classes_lie_along_dim_1(shape: tuple[int, ...]) -> None:
    logits = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    weight = 2 * torch.rand(shape[1], dtype=torch.float64)
    along = weight.reshape(-1, *[1] * (len(shape) - 2))
    for y in (torch.randint(0, 2, shape), torch.rand(shape, dtype=torch.float64)):
        wanted = -along * y * logits.sigmoid().log() - (1 - y) * (-logits).sigmoid().log()
        assert_same(losses.BinaryCrossEntropyLoss(pos_weight=weight), wanted, logits, y)
        wanted = -1.5 * y * logits.sigmoid().log() - (1 - y) * (-logits).sigmoid().log()
        assert_same(losses.BinaryCrossEntropyLoss(pos_weight=1.5), wanted, logits, y)
