"""Wrappers of losses give what their formulae say, on any number of ranks, and record as one loss."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from pool import Pool
from torch import Tensor, nn
from torch.nn import functional as F

from lossframe import InputError, Loss, NativeLoss, Objective, drain, losses
from lossframe.callbacks.monitor.discovery import find_sources
from lossframe.losses import CrossBatchMemory, Distilled, Masked

N, C, D = 12, 4, 6
Inputs = dict[str, Tensor]


def inputs(n: int = N) -> Inputs:
    """Return entries of all names, in float64, of which some targets are marked by a mask."""
    torch.manual_seed(0)
    x, y = torch.randn(n, D).double(), torch.randint(0, C, (n,))
    return {
        "logits": x[:, :C], "embeddings": x, "features": x, "prediction": x, "target": y, "labels": y,
        "teacher_logits": torch.randn(n, C).double(), "mask": torch.rand(n) < 0.6,
    }  # fmt: skip


def square(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction.mean(1) - target).square().mean()


MASKED: dict[str, Callable[[], Loss]] = {
    "cross-entropy": losses.CrossEntropyLoss,
    "torch's cross-entropy": lambda: NativeLoss(nn.CrossEntropyLoss(torch.arange(1.0, 1 + D).double())),
    "a function": lambda: NativeLoss(square),
    "all triplets": losses.BatchAllTripletLoss,
    "hard triplets": losses.BatchHardTripletLoss,
    "contrast": lambda: losses.SupConLoss(log_std=True),
    "center": lambda: losses.CenterLoss(C, D).double(),
    "distilled": lambda: Distilled(losses.FocalLoss()),
}
every_masked = pytest.mark.parametrize("name", MASKED)


def read(loss: Loss, given: Inputs) -> Inputs:
    """Return what a loss reads of some entries, the floating one with gradient."""
    found = {name: given[name].clone() for name in loss.reads if name in given}
    first = next(iter(found))
    return {**found, first: found[first].requires_grad_()}


@pytest.mark.parametrize("shape", [(N,), (N, D)])
def test_missing_targets_are_left_out_with_a_gradient_of_zero(shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    prediction, mask = torch.randn(shape).double().requires_grad_(), torch.rand(shape) < 0.7
    target = torch.where(mask, torch.randn(shape).double(), torch.nan)
    criterion = Masked(losses.HuberLoss(log_std=True), missing="target")
    value = criterion(prediction, target)
    wanted = F.huber_loss(prediction[mask], target[mask])
    assert torch.allclose(value, wanted, rtol=1e-12)
    found, same = (torch.autograd.grad(each, prediction, retain_graph=True)[0] for each in (value, wanted))
    assert torch.allclose(found, same, rtol=1e-12)
    assert found[~mask].eq(0).all()
    assert criterion.moments()["loss"].count == mask.sum()


@every_masked
def test_masked_loss_is_the_loss_of_the_samples_that_the_mask_marks(name: str) -> None:
    whole, plain = Masked(MASKED[name]()), MASKED[name]()
    given = inputs()
    mask = given["mask"]
    wanted = read(plain, {k: v[mask] for k, v in given.items()})
    given["target"] = given["target"].masked_fill(~mask, -7) if name != "a function" else given["target"]
    given["labels"] = given["labels"].masked_fill(~mask, C + 5)
    found = read(whole, given)
    values = whole(**found), plain(**wanted)
    torch.testing.assert_close(*values)
    gradients = [
        torch.autograd.grad(v, next(iter(i.values())))[0] for v, i in zip(values, (found, wanted), strict=True)
    ]
    torch.testing.assert_close(gradients[0][mask], gradients[1])
    assert (gradients[0][~mask] == 0).all()
    assert whole.avg == pytest.approx(plain.avg)
    assert whole.wrapped.is_empty
    assert {k.removeprefix("wrapped.") for k in whole.state_dict()} == plain.state_dict().keys()


def test_nan_in_masked_logits_reaches_no_curve_of_a_wrapped_wrapper() -> None:
    given = inputs()
    given["teacher_logits"][~given["mask"]] = torch.nan
    criterion = Masked(Distilled(losses.CrossEntropyLoss()))
    criterion(**{name: given[name] for name in criterion.reads})
    assert all(moments.count == given["mask"].sum() for moments in criterion.moments().values())
    assert criterion.avg.keys() == {"hard", "soft", "loss"}


def test_nan_in_masked_elements_is_harmless() -> None:
    prediction = torch.ones(2, 3, requires_grad=True)
    target, padding = torch.tensor([[0.0, torch.nan, 0.0], [torch.nan] * 3]), torch.tensor([[0, 1, 0], [1, 1, 1]])
    criterion = Masked(losses.HuberLoss(log_std=True), invert=True)
    value = criterion(prediction, target, padding)
    (gradient,) = torch.autograd.grad(value, prediction)
    assert value.item() == 0.5
    assert gradient.tolist() == [[0.5, 0, 0.5], [0, 0, 0]]
    assert criterion.moments()["loss"].count == 2
    weighted = criterion(prediction, target, padding, weight=torch.tensor([3.0, torch.nan]))
    assert weighted.item() == 1.5


RELATIONAL: dict[str, Callable[[], Any]] = {
    "contrastive": losses.ContrastiveLoss,
    "supcon": losses.SupConLoss,
    "nt_xent": losses.NTXentLoss,
    "all triplets": losses.BatchAllTripletLoss,
    "hard triplets": lambda: losses.BatchHardTripletLoss(margin=3.0),
    "semi-hard triplets": losses.BatchSemiHardTripletLoss,
}


def test_distilled_loss_is_the_mix_of_both_parts() -> None:
    given = inputs()
    logits, target, teacher_logits = given["logits"], given["target"].clone(), given["teacher_logits"]
    target[:3] = -100
    criterion = Distilled(losses.CrossEntropyLoss(), temperature=3.0, alpha=0.25)
    value = criterion(logits, target, teacher_logits)
    hard = F.cross_entropy(logits, target)
    soft = 9 * F.kl_div((logits[3:] / 3).log_softmax(1), (teacher_logits[3:] / 3).softmax(1), reduction="batchmean")
    torch.testing.assert_close(value, 0.75 * hard + 0.25 * soft)
    assert criterion.avg == pytest.approx({"hard": hard.item(), "soft": soft.item(), "loss": value.item()})


def test_teacher_is_frozen_and_stays_in_evaluation_mode() -> None:
    given, teacher = inputs(), nn.Sequential(nn.Linear(D, C), nn.Dropout(0.5)).double()
    criterion = Masked(Distilled(losses.CrossEntropyLoss(), teacher=teacher)).train()
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in criterion.parameters())
    found = criterion(given["logits"], given["target"], inputs=given["embeddings"], mask=given["mask"])
    scores = teacher(given["embeddings"])
    wanted = Masked(Distilled(losses.CrossEntropyLoss()))(given["logits"], given["target"], scores, given["mask"])
    torch.testing.assert_close(found, wanted)


WRAPPED: dict[str, Callable[[], Loss]] = {
    **{f"masked, {name}": lambda name=name: Masked(MASKED[name]()) for name in MASKED},
    **{f"queue, {name}": lambda name=name: CrossBatchMemory(RELATIONAL[name](), 9, D) for name in RELATIONAL},
    "distilled": lambda: Distilled(losses.CrossEntropyLoss()),
    "distilled of masked": lambda: Distilled(Masked(losses.CrossEntropyLoss())),
}  # type: ignore[misc]


def on_rank(rank: int, sizes: list[int]) -> list[tuple[float, float, float, float]]:
    """Return value, recorded mean, gradient and sum of the state after three steps of every wrapper on this shard."""
    rows, found = slice(sum(sizes[:rank]), sum(sizes[: rank + 1])), []
    for make in WRAPPED.values():
        criterion, gain = make().double(), torch.ones((), dtype=torch.float64, requires_grad=True)
        for step in (1.0, 0.5, 0.7):
            given = {k: v[rows] for k, v in inputs().items() if k in criterion.reads}
            first = next(iter(given))
            value = criterion(**{**given, first: step * gain * given[first]})
        (gradient,) = torch.autograd.grad(value, gain)
        state = sum(float(v.double().sum()) for v in criterion.state_dict().values() if isinstance(v, Tensor))
        found.append((value.item(), drain({"c": criterion})["c"]["loss"].mean, gradient.item(), state))
    return found


@pytest.mark.parametrize("sizes", [[9, 3], [10, 0, 2]])
def test_wrappers_give_on_ranks_what_one_process_gives(pool: Pool, sizes: list[int]) -> None:
    wanted = on_rank(0, [N])
    ranks = pool.run(len(sizes), on_rank, sizes)
    for k, (name, (value, mean, gradient, state)) in enumerate(zip(WRAPPED, wanted, strict=True)):
        for each in ranks:
            assert (each[k][0], each[k][1], each[k][3]) == pytest.approx((value, mean, state)), name
        assert sum(each[k][2] for each in ranks) / len(sizes) == pytest.approx(gradient), name


def test_wrapper_is_one_term_of_an_objective_and_one_curve() -> None:
    objective = Objective(
        {"a": Masked(losses.CrossEntropyLoss()), "b": Distilled(losses.CrossEntropyLoss(log_std=True))},
        inputs={"a": {"mask": "valid"}},
    )
    assert objective.reads == {"logits", "target", "valid", "teacher_logits"}
    objective({**inputs(), "valid": inputs()["mask"]})
    assert [name for name in find_sources(objective) if "/" not in name] == ["a", "b"]
    restored = pickle.loads(pickle.dumps(objective))
    for found in (copy.deepcopy(objective), restored):
        loss = found.losses["b"]
        assert loss.wrapped.owner is loss
        assert loss.log_std


def test_wrapper_is_configured() -> None:
    config = {"_target_": "lossframe.losses.Masked", "loss": {"_target_": "lossframe.losses.MSELoss", "log_std": True}}
    criterion = instantiate(config, log_max=True)
    assert (criterion.log_std, criterion.log_max, criterion.reads) == (True, True, ("prediction", "target", "mask"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Masked(nn.MSELoss()), r"loss is a MSELoss; wanted a Loss: wrap it in NativeLoss"),
        (lambda: Masked(losses.MSELoss(), missing="tagret"), r"missing='tagret': wanted an input of the loss"),
        (lambda: Masked(losses.MSELoss(), True, "target"), r"wanted invert with a mask, found it with missing"),
        (lambda: Masked(losses.L1L2Penalty()), r"wanted a loss that reads inputs, found a L1L2Penalty"),
        (lambda: Masked(losses.MSELoss())([1.0], [1.0], torch.ones(1)), r"wanted prediction as a tensor, found list"),
        (lambda: Masked(losses.MSELoss())(torch.ones(1), torch.ones(1), [True]), r"wanted mask as a tensor"),
        (lambda: CrossBatchMemory(losses.MSELoss(), 4, 2), r"wanted a loss of embeddings and labels of lossframe"),
        (lambda: CrossBatchMemory(losses.SupConLoss(), 0, 2), r"wanted size >= 1, found 0"),
        (lambda: Distilled(losses.SupConLoss()), r"a value per sample that depends on it alone"),
        (lambda: Distilled(losses.MSELoss())(*[torch.ones(2, 3)] * 3), r"it has to give one value per sample"),
        (
            lambda: Distilled(losses.CrossEntropyLoss())(torch.ones(2, 3), torch.ones(2).long(), torch.ones(2, 4)),
            r"wanted equal shapes, found logits \[2, 3\] and teacher_logits \[2, 4\]",
        ),
    ],
)
def test_what_a_wrapper_cannot_wrap_or_read_is_an_input_error(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("name", ["masked, contrast", "queue, supcon", "distilled"])
def test_half_precision_is_computed_in_float32(name: str) -> None:
    criterion = WRAPPED[name]().half()
    given = {k: v.half() if v.is_floating_point() else v for k, v in inputs().items() if k in criterion.reads}
    with torch.autocast("cpu", torch.bfloat16):
        value = criterion(**given)
    assert value.dtype == torch.float32
    assert all(v.dtype != torch.float16 for v in criterion.state_dict().values() if isinstance(v, Tensor))
