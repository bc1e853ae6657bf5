"""Softmax losses of infinite logits have the value and gradient of the limit of finite ones."""

from typing import Any

import pytest
import torch
from infinities import INF, at, both, evaluate, sizes
from torch import Tensor

from lossframe import losses

__all__ = ["sizes"]  # small and large batches

SOFTMAX = {
    "cross-entropy": losses.CrossEntropyLoss,
    "focal": lambda **options: losses.FocalLoss(gamma=0.0, **{"alpha": options.pop("class_weight", None)}, **options),
}
every_softmax = pytest.mark.parametrize("name", SOFTMAX)


@both
@every_softmax
def test_target_probability_of_0_at_minus_inf_adds_nothing(dtype: torch.dtype, name: str) -> None:
    logits = at(dtype, [-INF, 0, 0], [0, 1, 2], [0, -INF, 3], [-INF, 5, -INF])
    target = at(dtype, [0, 1, 0], [0.5, 0.25, 0.25], [0.5, 0, 0.5], [0, 1, 0])
    values, gradient = evaluate(SOFTMAX[name](), logits, target)
    p = logits.softmax(1)
    finite = logits.log_softmax(1).masked_fill(logits == -INF, 0)
    torch.testing.assert_close(values, -(target * finite).sum(1))
    assert float(values[0]) == pytest.approx(0.6931472, rel=1e-6)
    torch.testing.assert_close(gradient, p - target)


@both
@every_softmax
def test_target_probability_at_minus_inf_gives_infinity_with_a_finite_gradient(dtype: torch.dtype, name: str) -> None:
    logits = at(dtype, [-INF, 0, 0], [-INF, 0, 0]).requires_grad_()
    values = SOFTMAX[name]().loss(logits, at(dtype, [0.25, 0.75, 0], [0, 0.5, 0.5]))
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    assert values.isinf().tolist() == [True, False]
    torch.testing.assert_close(gradient, at(dtype, [-0.25, -0.25, 0.5], [0, 0, 0]))


@both
@every_softmax
@pytest.mark.parametrize("soft", [False, True])
def test_one_logit_of_plus_inf_has_probability_1(dtype: torch.dtype, name: str, soft: bool) -> None:
    logits = at(dtype, [INF, 0, -INF], [0, INF, 1], [0, 0, 0]).requires_grad_()
    indices = torch.tensor([0, 2, 1])
    target = torch.nn.functional.one_hot(indices, 3).to(dtype) if soft else indices
    values = SOFTMAX[name]().loss(logits, target)
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    torch.testing.assert_close(values, at(dtype, 0, INF, 1.0986122886681098))
    torch.testing.assert_close(gradient, at(dtype, [0, 0, 0], [0, 1, -1], [1 / 3, -2 / 3, 1 / 3]))


@every_softmax
def test_row_of_two_infinities_or_none_that_is_finite_has_no_softmax(name: str) -> None:
    logits = torch.tensor([[INF, INF, 0], [-INF, -INF, -INF], [0, 0, 0]])
    assert SOFTMAX[name]().loss(logits, torch.tensor([0, 0, 0])).isnan().tolist() == [True, True, False]


KINDS = ("indices", "soft", "ignored", "weighed")
SHAPES = [(3, 4), (3, 4, 2), (3, 4, 3, 2), (2000, 4)]


def with_infinities(shape: tuple[int, ...], kind: str) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Return float32 logits of which some are infinite, class indices, and the options of a kind of target."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=generator)
    target = torch.randint(0, 3, (shape[0], *shape[2:]), generator=generator)
    logits[:, 3] = -INF
    logits.view(-1)[:1] = INF  # of one sample and place, where the target is this class or none that counts
    first = (0,) * target.ndim
    target[first] = 0
    if kind == "ignored":
        target[(-1, *first[1:])] = 1
        return logits, target, {"ignore_index": 1}
    if kind == "weighed":
        target[(-1, *first[1:])] = 3
        return logits, target, {"class_weight": [1.0, 2.0, 0.5, 0.0]}
    return logits, target, {}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "kind"), [(n, k) for n in SOFTMAX for k in KINDS if (n, k) != ("focal", "ignored")])
def test_infinite_logits_are_the_limit_of_finite_ones_in_any_shape(
    name: str, shape: tuple[int, ...], kind: str
) -> None:
    logits, indices, options = with_infinities(shape, kind)
    target = indices
    if kind == "soft":
        target = torch.nn.functional.one_hot(indices, 4).movedim(-1, 1).float()
        target[-1, :3] = 1 / 3
    large = logits.double().clamp(-1e4, 1e4)
    wanted = evaluate(SOFTMAX[name](**options), large, target.double() if kind == "soft" else indices)
    for scores in (logits, logits.movedim(1, -1).contiguous().movedim(-1, 1)):
        found = evaluate(SOFTMAX[name](**options), scores, target)
        torch.testing.assert_close(found, tuple(t.float() for t in wanted))


@both
@every_softmax
@pytest.mark.parametrize("soft", [False, True])
def test_class_of_weight_0_at_minus_inf_adds_nothing(dtype: torch.dtype, name: str, soft: bool) -> None:
    weight = torch.tensor([0.0, 2.0, 1.0], dtype=dtype, requires_grad=True)
    criterion = SOFTMAX[name](class_weight=[0.0, 2.0, 1.0])
    setattr(criterion, "class_weight" if name == "cross-entropy" else "alpha", weight)
    logits = at(dtype, [-INF, 0, 0], [0, 0, 0]).requires_grad_()
    target = at(dtype, [1, 0, 0], [0, 1, 0]) if soft else torch.tensor([0, 1])
    values = criterion.loss(logits, target)
    of_logits, of_weight = torch.autograd.grad(values.sum(), (logits, weight))
    log3 = 1.0986122886681098
    torch.testing.assert_close(values, at(dtype, 0, 2 * log3))
    torch.testing.assert_close(of_logits, at(dtype, [0, 0, 0], [2 / 3, -4 / 3, 2 / 3]))
    torch.testing.assert_close(of_weight, at(dtype, 0, log3, 0))


@both
def test_smoothed_minus_inf_is_infinite_except_for_a_class_of_weight_0(dtype: torch.dtype) -> None:
    logits = at(dtype, [-INF, 0, 0], [1, 0, 0])
    target = torch.tensor([1, 1])
    for smoothing in (0.1, 1.0):
        assert losses.CrossEntropyLoss(smoothing).loss(logits, target).isinf().tolist() == [True, False]
        criterion = losses.CrossEntropyLoss(smoothing, class_weight=[0.0, 1.0, 1.0])
        values, gradient = evaluate(criterion, logits, target)
        of_each = torch.tensor([0, 1 - smoothing + smoothing / 3, smoothing / 3], dtype=dtype)
        assert float(values[0]) == pytest.approx(0.6931471805599453 * float(of_each.sum()), rel=1e-6)
        torch.testing.assert_close(gradient[0], logits[0].softmax(0) * of_each.sum() - of_each)


@both
@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("weight", [None, [0.5, 0.0, 2.0, 1.0]])
def test_smoothed_cross_entropy_equals_that_of_torch(
    dtype: torch.dtype, smoothing: float, weight: list[float] | None
) -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((5, 4), (4, 4, 4), (2, 4, 3, 2)):
        logits = torch.randn(shape, generator=generator, dtype=dtype)
        indices = torch.randint(0, 4, (shape[0], *shape[2:]), generator=generator)
        indices[-1] = -100
        for target in (indices, torch.rand(shape, generator=generator, dtype=dtype).softmax(1)):
            criterion = losses.CrossEntropyLoss(smoothing, class_weight=weight)
            numbers = None if weight is None else torch.tensor(weight, dtype=dtype)
            points = [logits.clone().requires_grad_() for _ in range(2)]
            wanted = torch.nn.functional.cross_entropy(
                points[0], target, numbers, label_smoothing=smoothing, reduction="none"
            )
            found = criterion.loss(points[1], target)
            torch.testing.assert_close(found, wanted)
            gradients = [torch.autograd.grad(v.sum(), p)[0] for v, p in zip((wanted, found), points, strict=True)]
            torch.testing.assert_close(gradients[1], gradients[0])


@both
@every_softmax
def test_gradient_of_a_soft_target_is_minus_log_p_where_finite(dtype: torch.dtype, name: str) -> None:
    logits = at(dtype, [-INF, 0, 0], [1, 2, 3])
    target = at(dtype, [0, 1, 0], [0, 0, 1]).requires_grad_()
    (gradient,) = torch.autograd.grad(SOFTMAX[name]().loss(logits, target).sum(), target)
    finite = logits > -INF
    torch.testing.assert_close(gradient[finite], -logits.log_softmax(1)[finite])
    assert gradient.isfinite().all()


def test_accuracy_of_infinite_logits_is_that_of_the_largest() -> None:
    logits = torch.tensor([[-INF, 0, INF], [-INF, 0, -INF]])
    assert losses.CategoricalAccuracy()(logits, torch.tensor([2, 0])) == 0.5
