"""Large inputs, evaluated some rows at a time, have the values and gradients of the plain formulae."""

from collections.abc import Callable
from functools import partial
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lossframe import InputError, chunks, losses
from lossframe.chunks import blocks
from lossframe.losses.algorithms import logistic_mixture, softmax
from lossframe.losses.algorithms.softmax import log_probability

Formula = Callable[[Tensor, Tensor], Tensor]


@pytest.fixture(autouse=True, params=[1e-9, 3])
def _small_blocks(monkeypatch: pytest.MonkeyPatch, threads: None, request: pytest.FixtureRequest) -> None:
    """Make every batch a large one: blocks of about 50 scores, three threads that have their own rows or share all."""
    torch.manual_seed(0)
    torch.set_num_threads(3)
    monkeypatch.setattr("lossframe.losses.algorithms.rowwise.BLOCKS_PER_THREAD", request.param)

    def small(tensor: Tensor, per_thread: int) -> list[slice]:
        return blocks(tensor, max(1, 50 // torch.get_num_threads()))

    monkeypatch.setattr("lossframe.losses.algorithms.rowwise.blocks", small)
    monkeypatch.setattr(softmax, "blocks", small)
    monkeypatch.setattr(
        softmax, "SCORES_PER_THREAD", 20 if request.param == 3 else 1 << 19
    )  # parts of images, or whole ones


def evaluate(formula: Formula, scores: Tensor, target: Tensor) -> list[Tensor]:
    """Return values, their weighted gradient by the scores, and a gradient of the gradient."""
    scores = scores.detach().requires_grad_()
    values = formula(scores, target)
    weight = torch.linspace(-1, 2, values.numel(), dtype=values.dtype).reshape(values.shape)
    (gradient,) = torch.autograd.grad(values, scores, weight, retain_graph=True)
    (twice,) = torch.autograd.grad(values, scores, 2 * weight, retain_graph=True)
    torch.testing.assert_close(twice, 2 * gradient, rtol=1e-12, atol=1e-12)
    (again,) = torch.autograd.grad(values, scores, weight, create_graph=True)
    (second,) = torch.autograd.grad(again.square().sum(), scores)
    return [values, gradient, again, second]


def assert_same(found: Formula, wanted: Formula, scores: Tensor, target: Tensor) -> None:
    torch.testing.assert_close(
        evaluate(found, scores, target), evaluate(wanted, scores, target), rtol=1e-12, atol=1e-12
    )
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            torch.testing.assert_close(found(scores, target), wanted(scores, target), rtol=1e-12, atol=1e-12)


def cross_entropy(scores: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(scores, target, reduction="none")


def test_many_short_rows_have_the_values_and_gradients_of_cross_entropy() -> None:
    scores = torch.randn(3000, 3, dtype=torch.float64)
    target, gradient = torch.randint(0, 3, (3000,)), torch.empty_like(scores)
    alone = softmax._log_probability(scores, target)
    torch.testing.assert_close(alone, -cross_entropy(scores, target), rtol=1e-12, atol=1e-12)
    values = softmax._log_probability_and_gradient(scores, target, gradient)
    torch.testing.assert_close(values, -cross_entropy(scores, target), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, F.one_hot(target, 3) - scores.softmax(1), rtol=1e-12, atol=1e-12)


SHAPES = [(300, 1), (300, 3), (40, 30), (2, 4, 17, 5), (2, 4, 300), (100, 3, 2), (0, 3), (0, 3, 4, 4)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_log_probability_in_blocks_equals_cross_entropy(shape: tuple[int, ...], size: float) -> None:
    scores, target = size * torch.randn(shape, dtype=torch.float64), torch.randint(0, shape[1], (shape[0], *shape[2:]))
    assert_same(lambda s, t: -log_probability(s, t), cross_entropy, scores, target)
    if scores.ndim == 4:
        assert_same(
            lambda s, t: -log_probability(s, t), cross_entropy, scores.to(memory_format=torch.channels_last), target
        )
    elif len(scores):
        assert_same(lambda s, t: -log_probability(s, t), cross_entropy, scores.mT.contiguous().mT, target)


IGNORED = [(torch.int64, -100), (torch.int32, -100), *product((torch.int64, torch.int32, torch.uint8), (2, 255))]


@pytest.mark.parametrize(("dtype", "ignored"), IGNORED)
@pytest.mark.parametrize("weight", [None, [0.5, 0.0, 2.0, 1.0]])
def test_cross_entropy_with_ignored_targets_equals_that_of_torch(
    dtype: torch.dtype, ignored: int, weight: list[float] | None
) -> None:
    scores, target = torch.randn(50, 4, 3, dtype=torch.float64), torch.randint(0, 4, (50, 3))
    target[::7] = min(ignored, torch.iinfo(dtype).max)
    numbers = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    for reduction in ("none", "mean", "sum", "weighted_mean"):
        criterion = losses.CrossEntropyLoss(class_weight=weight, ignore_index=ignored, reduction=reduction)
        values = F.cross_entropy(scores, target, numbers, ignore_index=ignored, reduction="none")
        counted = (target != ignored).double()
        if numbers is not None and reduction == "weighted_mean":
            counted = counted * numbers[target.clamp(0, 3)]
        wanted = {"none": values, "sum": values.sum()}.get(reduction, values.sum() / counted.sum())
        torch.testing.assert_close(criterion(scores, target.to(dtype)), wanted, rtol=1e-12, atol=1e-12)


def focal_of(gamma: float, alpha: float | None) -> Formula:
    def formula(z: Tensor, y: Tensor) -> Tensor:
        wrong = y * (-z).sigmoid() + (1 - y) * z.sigmoid()
        values = wrong.clamp_min(1e-15).pow(gamma) * F.binary_cross_entropy_with_logits(z, y, reduction="none")
        return values if alpha is None else (alpha * y + (1 - alpha) * (1 - y)) * values

    return formula


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 3.3])
@pytest.mark.parametrize("alpha", [None, 0.25, 0.0, 1.0])
def test_binary_focal_in_blocks_equals_the_plain_formula(gamma: float, alpha: float | None) -> None:
    extremes = torch.tensor([0.0, 30.0, -30.0, 800.0, -800.0, 1e4, -1e4], dtype=torch.float64)
    logits = torch.cat([3 * torch.randn(200, dtype=torch.float64), extremes, extremes, extremes])
    target = torch.cat([torch.rand(100), torch.randint(0, 2, (100,)), torch.zeros(7), torch.ones(7), torch.rand(7)])
    criterion = losses.BinaryFocalLoss(gamma, alpha, reduction="none")
    assert_same(criterion.loss, focal_of(gamma, alpha), logits, target.double())
    assert_same(
        criterion.loss, focal_of(gamma, alpha), logits[:220].reshape(20, 11), target[:220].double().view(20, 11)
    )


def test_soft_target_that_needs_a_gradient_gets_the_plain_one() -> None:
    logits = torch.randn(200, dtype=torch.float64)
    target = torch.rand(200, dtype=torch.float64, requires_grad=True)
    found, wanted = (
        torch.autograd.grad(formula(logits, target).sum(), target)
        for formula in (losses.BinaryFocalLoss(reduction="none"), focal_of(2.0, 0.25))
    )
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("channels", "kinds"), [(3, 10), (1, 3)])
def test_images_of_a_mixture_in_blocks_equal_the_plain_formula(channels: int, kinds: int) -> None:
    parameters = 2 * torch.randn(6, kinds * 2, 5, 4, dtype=torch.float64)
    image = (torch.randint(0, 256, (6, channels, 5, 4)) / 127.5 - 1).double()
    image[0], image[1] = 1, -1
    criterion = losses.DiscretizedLogisticMixtureLoss(2)
    assert_same(criterion.loss, partial(logistic_mixture._values, k=2), parameters, image)


def test_blocks_cover_every_row_once() -> None:
    for shape in ((0,), (1,), (7,), (1000, 3), (3, 1000), (5, 0)):
        for per_thread in (1, 10, 1 << 20):
            rows = [row for block in chunks.blocks(torch.zeros(shape), per_thread) for row in range(shape[0])[block]]
            assert rows == list(range(shape[0]))


def test_finite_values_with_an_infinite_sum_pass_the_finite_check() -> None:
    large = torch.full((4,), 3e38)
    assert losses.HuberLoss()(large, large) == 0
    with pytest.raises(InputError, match="found 2 of 4 values NaN or infinite"):
        losses.HuberLoss()(large, torch.tensor([torch.inf, -torch.inf, 0.0, 0.0]))
