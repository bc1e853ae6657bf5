"""`NativeLoss` evaluates and records torch's criteria by value."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pool import Pool
from torch import Tensor, nn

from lossframe import NativeLoss, drain, losses

C = 4
SIZES = (133, 64, 5)
WEIGHT, ZERO = torch.tensor([1.0, 2.0, 0.5, 3.0]), torch.tensor([0.0, 1.0, 2.0, 1.0])


def indices(n: int, *shape: int) -> tuple[Tensor, Tensor]:
    return torch.randn(n, C, *shape), torch.randint(0, C, (n, *shape))


def ignoring(n: int, *shape: int) -> tuple[Tensor, Tensor]:
    logits, target = indices(n, *shape)
    target[torch.rand(target.shape) < 0.3] = -100
    return logits, target


def shares(n: int) -> tuple[Tensor, Tensor]:
    return torch.randn(n, C).log_softmax(1), torch.rand(n, C).softmax(1)


def numbers(n: int) -> tuple[Tensor, Tensor]:
    return torch.rand(n, C), torch.rand(n, C)


def signs(n: int) -> tuple[Tensor, Tensor]:
    return torch.randn(n, C), 2.0 * torch.randint(0, 2, (n, C)) - 1


Data = Callable[[int], tuple[Tensor, Tensor]]
CRITERIA: dict[str, tuple[type[nn.Module], dict[str, Any], Data]] = {
    "cross-entropy": (nn.CrossEntropyLoss, {}, indices),
    "cross-entropy, weights and ignored": (nn.CrossEntropyLoss, {"weight": WEIGHT}, lambda n: ignoring(n, 3)),
    "cross-entropy, index 1 ignored": (nn.CrossEntropyLoss, {"ignore_index": 1}, indices),
    "cross-entropy, smoothed": (nn.CrossEntropyLoss, {"weight": WEIGHT, "label_smoothing": 0.1}, ignoring),
    "cross-entropy, weight 0": (nn.CrossEntropyLoss, {"weight": ZERO}, ignoring),
    "cross-entropy, weight 0, smoothed": (nn.CrossEntropyLoss, {"weight": ZERO, "label_smoothing": 0.1}, ignoring),
    "cross-entropy of probabilities": (nn.CrossEntropyLoss, {"weight": WEIGHT}, shares),
    "nll": (nn.NLLLoss, {"weight": WEIGHT}, lambda n: (shares(n)[0], ignoring(n)[1])),
    "kl": (nn.KLDivLoss, {}, shares),
    "multi-margin": (nn.MultiMarginLoss, {"weight": WEIGHT, "p": 2}, indices),
    "multi-label margin": (
        nn.MultiLabelMarginLoss, {}, lambda n: (torch.randn(n, C), torch.tensor([[0, 2, -1, 1]]).repeat(n, 1)),
    ),
    "multi-label soft margin": (nn.MultiLabelSoftMarginLoss, {"weight": WEIGHT}, numbers),
    "hinge embedding": (nn.HingeEmbeddingLoss, {}, signs),
    "soft margin": (nn.SoftMarginLoss, {}, signs),
    "poisson": (nn.PoissonNLLLoss, {"full": True}, numbers),
    "huber": (nn.HuberLoss, {"delta": 0.1}, numbers),
    "smooth l1": (nn.SmoothL1Loss, {}, numbers),
    "l1": (nn.L1Loss, {}, numbers),
    "mse": (nn.MSELoss, {}, numbers),
    "bce": (nn.BCELoss, {}, numbers),
    "bce with logits": (nn.BCEWithLogitsLoss, {"pos_weight": WEIGHT}, numbers),
}  # fmt: skip
REDUCTIONS = {"kl": ("mean", "sum", "none", "batchmean")}
CASES = [(name, reduction) for name in CRITERIA for reduction in REDUCTIONS.get(name, ("mean", "sum", "none"))]
every_case = pytest.mark.parametrize(("name", "reduction"), CASES)
pytestmark = pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss by both")


def made(name: str, reduction: str) -> nn.Module:
    loss_class, options, _ = CRITERIA[name]
    return loss_class(reduction=reduction, **options)


def batches(name: str, sizes: tuple[int, ...] = SIZES) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    return [CRITERIA[name][2](n) for n in sizes]


def together(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    prediction, target = (torch.cat(each) for each in zip(*parts, strict=True))
    return prediction.double(), target.double() if target.is_floating_point() else target


@every_case
def test_value_and_gradient_are_those_of_torch_to_the_last_digit(name: str, reduction: str) -> None:
    for prediction, target in batches(name):
        found, wanted = (prediction.clone().requires_grad_() for _ in range(2))
        value, native = NativeLoss(made(name, reduction))(found, target), made(name, reduction)(wanted, target)
        native = native.mean() if reduction == "none" else native
        assert torch.equal(value, native) or reduction != "mean"
        torch.testing.assert_close(value, native)
        torch.testing.assert_close(
            *(torch.autograd.grad(v, x)[0] for v, x in ((value, found), (native, wanted))), rtol=1e-5, atol=1e-8
        )


@every_case
def test_recorded_mean_of_uneven_batches_is_torchs_mean_of_them_together(name: str, reduction: str) -> None:
    if reduction == "sum" and name == "cross-entropy, weight 0, smoothed":
        pytest.skip("a criterion that is not evaluated unreduced, whose sums have no mean over values")
    criterion, parts = NativeLoss(made(name, reduction)), batches(name)
    for part in parts:
        criterion(*part)
    wanted = made(name, "mean" if reduction == "sum" else reduction).double()(*together(parts)).mean()
    assert criterion.avg["loss"] == pytest.approx(wanted.item(), rel=1e-6)


@every_case
def test_empty_batch_is_a_zero_that_is_not_recorded(name: str, reduction: str) -> None:
    (prediction, target), *_ = batches(name)
    criterion = NativeLoss(made(name, reduction))
    value = criterion(prediction[:0].requires_grad_(), target[:0])
    value.backward()
    assert value.item() == 0
    assert criterion.avg == {}


def on_rank(rank: int, sizes: list[int]) -> dict[tuple[str, str], tuple[float, float]]:
    """Return value and recorded mean of every criterion on this rank's shards."""
    found, mine = {}, slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
    warnings.simplefilter("ignore")
    for name, reduction in CASES:
        criterion = NativeLoss(made(name, reduction))
        values = [criterion(*(x[mine] for x in part)).item() for part in batches(name, (9, 9))]
        found[name, reduction] = (values[-1], drain({"c": criterion})["c"]["loss"].mean)
    return found


@pytest.mark.parametrize("sizes", [[8, 1], [9, 0]])
def test_criteria_on_two_ranks_equal_those_of_one(pool: Pool, sizes: list[int]) -> None:
    wanted = on_rank(0, [9])
    for found in pool.run(2, on_rank, sizes):
        for case, pair in wanted.items():
            assert found[case] == pytest.approx(pair, rel=2e-6), case


def test_every_criterion_of_torch_with_two_inputs_is_recognised() -> None:
    known = {loss_class for loss_class, *_ in CRITERIA.values()}
    more = {  # of three inputs or more, or no criterion of predictions and targets
        nn.CosineEmbeddingLoss, nn.MarginRankingLoss, nn.TripletMarginLoss, nn.TripletMarginWithDistanceLoss,
        nn.GaussianNLLLoss, nn.CTCLoss, nn.AdaptiveLogSoftmaxWithLoss,
    }  # fmt: skip
    of_torch = {each for name, each in vars(nn).items() if name.endswith("Loss")} - more - {nn.NLLLoss2d}
    assert of_torch - {getattr(nn, "LinearCrossEntropyLoss", None)} == known
    assert all(NativeLoss(loss_class()).recognised for loss_class in known)


@pytest.mark.parametrize("name", ["cross-entropy, weights and ignored", "nll"])
def test_batch_of_ignored_targets_is_a_zero_with_gradient(name: str) -> None:
    (prediction, target), *_ = batches(name)
    criterion, leaf = NativeLoss(made(name, "mean")), prediction.requires_grad_()
    value = criterion(leaf, torch.full_like(target, -100))
    assert value.item() == 0
    assert (torch.autograd.grad(value, leaf)[0] == 0).all()
    assert criterion.avg == {}


@pytest.mark.skipif(not hasattr(nn, "LinearCrossEntropyLoss"), reason="since torch 2.13")
def test_criterion_that_reduces_in_chunks_is_counted_by_its_targets() -> None:
    native = nn.LinearCrossEntropyLoss(3, C, weight=WEIGHT, ignore_index=1)
    criterion, parts = NativeLoss(native), [(torch.randn(n, 3), torch.randint(0, C, (n,))) for n in SIZES]
    for part in parts:
        assert torch.equal(criterion(*part), native(*part))
    wanted = native(*(torch.cat(each) for each in zip(*parts, strict=True)))
    assert criterion.avg["loss"] == pytest.approx(wanted.item(), rel=1e-5)


def test_spread_of_values_is_not_warned_of() -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for name in CRITERIA:
            if name != "cross-entropy, weight 0, smoothed":
                NativeLoss(made(name, "mean"), log_std=True)(*batches(name)[0])
        losses.KappaLogLoss(C, log_std=True)(torch.rand(9, C), torch.randint(0, C, (9,)))
        losses.AuxiliaryLoss(log_std=True)(torch.ones(3))
    assert [str(each.message) for each in told if "batch means" in str(each.message)] == []


def test_compiled_and_functional_calls_record_alike() -> None:
    part = batches("cross-entropy")[0]
    criterion = NativeLoss(nn.CrossEntropyLoss())
    torch.func.grad(criterion)(*part)
    assert criterion.avg["loss"] == pytest.approx(nn.CrossEntropyLoss()(*part).item(), rel=1e-6)
