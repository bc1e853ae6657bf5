"""ROCAUCLoss equals all pairs in float64: far scores, offsets, scales, infinities, and every kind of derivative."""

import pytest
import torch
from torch import Tensor

from lossframe import losses

INF = float("inf")
EASY = [(far, 0) for far in (-1e4, -1e5, -1e6, -1e9, -3e38, -INF)] + [(far, 1) for far in (1e4, 1e6, 1e9, 3e38, INF)]


def all_pairs(scores: Tensor, target: Tensor, margin: float = 0.2, power: int = 3) -> Tensor:
    positive = target != 0
    return (margin - (scores[positive, None] - scores[~positive])).relu().pow(power).sum()


def random(n: int, scale: float, offset: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    scores = torch.randn(n, generator=generator, dtype=torch.float64) * scale + offset
    return scores.to(dtype), torch.randint(0, 2, (n,), generator=generator)


def assert_exact(scores: Tensor, target: Tensor, margin: float = 0.2, power: int = 3) -> None:
    """Compare value and gradient with the same scores in float64, entry by entry."""
    wide, narrow = scores.double().requires_grad_(), scores.requires_grad_()
    wanted = all_pairs(wide, target, margin, power)
    found = losses.ROCAUCLoss(margin, power, reduction="sum")(narrow, target)
    gradients = [torch.autograd.grad(value, leaf)[0].double() for value, leaf in ((found, narrow), (wanted, wide))]
    tolerance = {"rtol": 1e-2 if scores.dtype == torch.bfloat16 else 1e-3 if scores.dtype == torch.float16 else 1e-6}
    torch.testing.assert_close(found.double(), wanted.to(found.dtype).double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(gradients[0], gradients[1].to(scores.dtype).double(), **tolerance, atol=0)


@pytest.mark.parametrize(("far", "label"), EASY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_easy_score_changes_nothing(far: float, label: int, dtype: torch.dtype) -> None:
    scores = torch.tensor([0.1, 0.0, far], dtype=dtype, requires_grad=True)
    value = losses.ROCAUCLoss(margin=0.2, power=3, reduction="sum")(scores, torch.tensor([1, 0, label]))
    value.backward()
    assert value.item() == pytest.approx(0.001, rel=1e-6)
    assert scores.grad.tolist() == pytest.approx([-0.03, 0.03, 0], rel=1e-6)


def test_far_easy_negative_does_not_change_the_mean() -> None:
    for far in (-1e5, -1e6, -1e9):
        assert losses.ROCAUCLoss()(torch.tensor([0.1, 0, far]), torch.tensor([1, 0, 0])).item() == pytest.approx(0.0005)


@pytest.mark.parametrize("n", [2, 17, 64, 65, 300, 2500])
@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (1e-3, 0), (1, 1e9), (1e3, 1e9), (1e-30, 0), (1e12, 0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_and_gradient_equal_those_of_all_pairs(n: int, scale: float, offset: float, dtype: torch.dtype) -> None:
    assert_exact(*random(n, scale, offset, dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("power", [1, 2, 5])
def test_tied_scores_of_half_precision_equal_all_pairs(dtype: torch.dtype, power: int) -> None:
    assert_exact(*random(300, 1, 0, dtype), margin=0.37, power=power)


def test_hard_outlier_leaves_the_precision_of_the_other_gradients() -> None:
    scores, target = random(200, 1, 0, torch.float32)
    scores[:4], target[:4] = torch.tensor([1e7, -1e7, -1e9, 1e9]), torch.tensor([0, 1, 0, 1])
    assert_exact(scores, target)


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1.0, 1e10, 1e30])
@pytest.mark.parametrize("power", [1, 3, 12])
def test_loss_is_never_negative_or_nan(scale: float, power: int) -> None:
    for seed in range(20):
        scores, target = random(seed + 2, scale, 0, torch.float32)
        assert losses.ROCAUCLoss(power=power)(scores, target) >= 0


def test_nan_score_makes_the_value_nan() -> None:
    for place in range(3):
        scores = torch.tensor([0.1, 0.0, -1.0]).index_fill(0, torch.tensor(place), torch.nan)
        criterion = losses.ROCAUCLoss(reduction="none")
        assert criterion.loss(scores, torch.tensor([1, 0, 0])).isnan().any()


def test_infinitely_hard_score_makes_the_value_infinite() -> None:
    scores = torch.tensor([INF, INF, 0.5, 0.4])
    assert losses.ROCAUCLoss().loss(scores, torch.tensor([0, 0, 1, 0])).tolist() == [0, 0, INF, 0]


@pytest.mark.parametrize("n", [9, 70, 2500])
def test_batched_gradients_equal_single_ones(n: int) -> None:
    scores, target = random(n, 1, 0, torch.float64)
    value = losses.ROCAUCLoss(reduction="none")(scores.requires_grad_(), target)
    directions = torch.randn(3, n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    batched = torch.autograd.grad(value, scores, directions, is_grads_batched=True, retain_graph=True)[0]
    single = [torch.autograd.grad(value, scores, d, retain_graph=True)[0] for d in directions]
    torch.testing.assert_close(batched, torch.stack(single), rtol=1e-12, atol=1e-12)


def test_functional_derivatives_equal_those_of_all_pairs() -> None:
    scores, target = random(9, 1, 0, torch.float64)
    criterion = losses.ROCAUCLoss(reduction="sum")

    def value(scores: Tensor) -> Tensor:
        return criterion.loss(scores, target).sum()

    def plain(scores: Tensor) -> Tensor:
        return all_pairs(scores, target)

    close = {"rtol": 1e-11, "atol": 1e-11}
    torch.testing.assert_close(torch.func.grad(value)(scores), torch.func.grad(plain)(scores), **close)
    wanted = torch.autograd.functional.hessian(plain, scores)
    torch.testing.assert_close(torch.autograd.functional.hessian(value, scores), wanted, **close)
    torch.testing.assert_close(torch.func.jacrev(torch.func.jacrev(value))(scores), wanted, **close)


@pytest.mark.parametrize("n", [9, 70, 2500])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mapped_values_and_gradients_equal_single_ones(n: int, dtype: torch.dtype) -> None:
    scores, target = random(n, 1, 0, dtype)
    criterion, several = losses.ROCAUCLoss(), torch.stack([scores, 2 * scores])

    def value(scores: Tensor) -> Tensor:
        return criterion.loss(scores, target).sum()

    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(torch.vmap(value)(several), torch.stack([value(x) for x in several]), **close)
    leaf = several.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(value(leaf[0]) + value(leaf[1]), leaf)
    torch.testing.assert_close(torch.vmap(torch.func.grad(value))(several), wanted, **close)
    torch.testing.assert_close(torch.func.grad(value)(scores), wanted[0], **close)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Dynamo makes a Function of its own
def test_gradient_of_the_compiled_formula_is_that_of_the_plain_one() -> None:
    scores, target = random(70, 1, 0, torch.float64)
    criterion = losses.ROCAUCLoss()
    torch._dynamo.reset()
    compiled = torch.compile(criterion.loss, fullgraph=True, backend="eager")
    scores.requires_grad_()
    found, wanted = (torch.autograd.grad(f(scores, target).sum(), scores)[0] for f in (compiled, criterion.loss))
    assert torch.equal(found, wanted)
