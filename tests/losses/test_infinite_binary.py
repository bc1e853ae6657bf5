"""Binary losses of infinite logits have the limit's value and gradient; nearly certain logits keep their digits."""

import pytest
import torch
from infinities import INF, at, both, evaluate, sizes

from lossframe import losses

__all__ = ["sizes"]  # small and large batches

BINARY = {
    "cross-entropy": losses.BinaryCrossEntropyLoss,
    "pos_weight": lambda: losses.BinaryCrossEntropyLoss(pos_weight=1.0),
    "pos_weight of each class": lambda: losses.BinaryCrossEntropyLoss(pos_weight=[1.0, 1.0, 1.0, 1.0]),
    "focal": lambda: losses.BinaryFocalLoss(gamma=0.0, alpha=None),
    "focal of power 2": lambda: losses.BinaryFocalLoss(gamma=2.0, alpha=None),
    "focal of power 1/2": lambda: losses.BinaryFocalLoss(gamma=0.5, alpha=None),
}
every_binary = pytest.mark.parametrize("name", BINARY)


@both
@every_binary
@pytest.mark.parametrize("soft", [False, True])
def test_right_infinite_logit_has_value_0_and_wrong_one_infinity(dtype: torch.dtype, name: str, soft: bool) -> None:
    logits = at(dtype, [INF, -INF, INF, -INF], [0, 1, 2, 0]).requires_grad_()
    target = at(dtype, [1, 0, 0, 1], [0, 1, 1, 0.5 if soft else 0])
    values = BINARY[name]().loss(logits, target)
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    torch.testing.assert_close(values[0].detach(), at(dtype, 0, 0, INF, INF))
    torch.testing.assert_close(gradient[0], at(dtype, 0, 0, 1, -1))
    assert values[1].isfinite().all()
    assert gradient[1].isfinite().all()


@both
@every_binary
def test_infinite_logit_of_a_soft_target_has_value_infinity(dtype: torch.dtype, name: str) -> None:
    logits = at(dtype, [INF, -INF, INF, -INF]).requires_grad_()
    values = BINARY[name]().loss(logits, at(dtype, [0.5, 0.5, 0.25, 0.25]))
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    power = {"focal of power 2": 2.0, "focal of power 1/2": 0.5}.get(name, 0.0)
    assert values.isinf().all()
    assert not (values < 0).any()
    slopes = at(torch.float64, [0.5, -0.5, 0.75, -0.25])
    torch.testing.assert_close(gradient, (slopes * slopes.abs() ** power).to(dtype))


@both
def test_label_smoothing_gives_every_infinite_logit_value_infinity(dtype: torch.dtype) -> None:
    values = losses.BinaryCrossEntropyLoss(0.1).loss(at(dtype, INF, -INF, 0), at(dtype, 1, 0, 1))
    assert values.isinf().tolist() == [True, True, False]


@both
@pytest.mark.parametrize("soft", [False, True])
def test_weight_of_0_leaves_out_an_infinite_value(dtype: torch.dtype, soft: bool) -> None:
    logits, target = at(dtype, [-INF, INF, 1]), at(dtype, [1, 0, 0.5 if soft else 1])
    values, gradient = evaluate(losses.BinaryCrossEntropyLoss(pos_weight=0.0), logits, target)
    assert values[0, :2].tolist() == [0, INF]
    assert gradient.isfinite().all()
    for alpha, wanted in ((0.0, [0, INF]), (1.0, [INF, 0])):
        values, gradient = evaluate(losses.BinaryFocalLoss(alpha=alpha), logits, target)
        assert values[0, :2].tolist() == wanted
        assert gradient.isfinite().all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 30.0, 1e30])
def test_focal_losses_of_any_scale_equal_float64(gamma: float, scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(40, 4, generator=generator)
    hard, soft = torch.randint(0, 2, (40, 4), generator=generator).float(), torch.rand(40, 4, generator=generator)
    indices = torch.randint(0, 4, (40,), generator=generator)
    classes = torch.rand(40, 4, generator=generator).softmax(1)
    for criterion, target in (
        (losses.BinaryFocalLoss(gamma), hard),
        (losses.BinaryFocalLoss(gamma), soft),
        (losses.FocalLoss(gamma), indices),
        (losses.FocalLoss(gamma), classes),
    ):
        found = evaluate(criterion, logits, target)
        wanted = evaluate(criterion, logits.double(), target.double() if target.is_floating_point() else target)
        assert (found[0] >= 0).all()
        for mine, exact in zip(found, wanted, strict=True):
            floor = 1e-37 if target is hard else 2e-7  # 1 + 1e-8 is 1: what is near certain in a softmax, or soft
            torch.testing.assert_close(mine.double(), exact, rtol=1e-5, atol=floor)


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_confident_binary_values_keep_their_digits(target: float) -> None:
    logits = torch.linspace(-80, 80, 321)
    y = torch.full_like(logits, target)
    for criterion in (losses.BinaryCrossEntropyLoss(), losses.BinaryFocalLoss(0.5), losses.BinaryFocalLoss(2.0)):
        found, wanted = evaluate(criterion, logits, y), evaluate(criterion, logits.double(), y.double())
        for mine, exact in zip(found, wanted, strict=True):
            torch.testing.assert_close(mine.double(), exact, rtol=1e-5, atol=1e-37)
