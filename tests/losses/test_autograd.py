"""Batched gradients, `torch.func`, forward mode and repeated backwards agree with plain backward, in any batch size."""

from typing import Any

import pytest
import torch
from batches import N, batch
from table import TABLE, differentiable
from torch import Tensor
from torch.autograd import forward_ad

from lossframe import Loss, chunks, losses
from lossframe.losses.algorithms import rowwise

LOSSES = [
    losses.BatchAllTripletLoss, losses.BatchHardTripletLoss, losses.BatchSemiHardTripletLoss,
    losses.BinaryCrossEntropyLoss, losses.BinaryFocalLoss, losses.CrossEntropyLoss,
    losses.DiscretizedLogisticMixtureLoss, losses.FocalLoss, losses.NTXentLoss, losses.ROCAUCLoss, losses.SupConLoss,
]  # fmt: skip
OPTIONS: dict[type[Loss], dict[str, Any]] = {losses.CrossEntropyLoss: {"class_weight": [1.0, 2.0, 0.5, 0.0]}}
pytestmark = [  # torch's own: forward mode starts by a script, and vmap loops where an operation has no rule
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),
]
every_door = pytest.mark.parametrize("loss_class", LOSSES, ids=lambda loss_class: loss_class.__name__)


@pytest.fixture(autouse=True, params=["small", "large"])
def _size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, threads: None) -> None:
    """Evaluate batches at once, or as large ones are: some rows at a time, by threads."""
    torch.set_num_threads(2)
    if request.param != "small":
        monkeypatch.setattr(rowwise, "blocks", lambda tensor, _: chunks.blocks(tensor, 2))
        monkeypatch.setattr("lossframe.losses.algorithms.anchorwise.BLOCK_BYTES", 2 * N * 8)
        monkeypatch.setattr("lossframe.losses.algorithms.anchorwise.COLUMN_BYTES", 16)
        monkeypatch.setattr(rowwise, "BLOCKS_PER_THREAD", 1e-9)
        monkeypatch.setattr("lossframe.losses.algorithms.anchorwise.ANCHORS_PER_THREAD", 0.1)


class Door:
    """A loss as a function of its first input, and the Jacobian of its values, row by row."""

    def __init__(self, loss_class: type[Loss]) -> None:
        row, self.inputs = TABLE[loss_class], batch(loss_class)
        self.criterion = loss_class(**OPTIONS.get(loss_class, row.options), record=False).double().eval()
        self.name = differentiable(self.inputs)[0]
        self.point = self.inputs[self.name]
        point, values = self.values_with_gradient()
        rows = [torch.autograd.grad(value, point, retain_graph=True)[0] for value in values.reshape(-1)]
        self.jacobian = torch.stack(rows).reshape(*values.shape, *point.shape)

    def __call__(self, point: Tensor) -> Tensor:
        values: Tensor = self.criterion.loss(**{**self.inputs, self.name: point})
        return values

    def values_with_gradient(self) -> tuple[Tensor, Tensor]:
        point = self.point.clone().requires_grad_()
        return point, self(point)

    def of_the_sum(self) -> Tensor:
        return self.jacobian.reshape(-1, *self.point.shape).sum(0)


def assert_close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


@every_door
def test_batched_gradients_equal_those_of_each_value(loss_class: type[Loss]) -> None:
    door = Door(loss_class)
    point, values = door.values_with_gradient()
    each = torch.eye(values.numel(), dtype=values.dtype).reshape(values.numel(), *values.shape)
    for _ in range(2):
        (found,) = torch.autograd.grad(values, point, each, is_grads_batched=True, retain_graph=True)
        assert_close(found.reshape(door.jacobian.shape), door.jacobian)
    (found,) = torch.autograd.grad(values.sum(), point, retain_graph=True)
    assert_close(found, door.of_the_sum())
    (found,) = torch.autograd.grad(values, point, each, is_grads_batched=True)
    assert_close(found.reshape(door.jacobian.shape), door.jacobian)


@every_door
def test_batched_gradients_can_be_differentiated_again(loss_class: type[Loss]) -> None:
    door = Door(loss_class)
    seconds = []
    for vectorize in (False, True):
        point = door.point.clone().requires_grad_()
        jacobian = torch.autograd.functional.jacobian(door, point, create_graph=True, vectorize=vectorize)
        assert_close(jacobian, door.jacobian)
        seconds.append(torch.autograd.grad(jacobian.square().sum(), point)[0])
    assert_close(seconds[1], seconds[0])


@every_door
def test_batched_gradients_of_calls_equal_those_of_each_call(loss_class: type[Loss]) -> None:
    door = Door(loss_class)
    point = door.point.clone().requires_grad_()
    calls = [door.criterion(**{**door.inputs, door.name: point}) for _ in range(3)]
    wanted = torch.stack([torch.autograd.grad(call, point, retain_graph=True)[0] for call in calls])
    terms = torch.stack(calls)
    (found,) = torch.autograd.grad(terms, point, torch.eye(3, dtype=terms.dtype), is_grads_batched=True)
    assert_close(found, wanted)


@every_door
def test_transforms_of_torch_func_equal_plain_autograd(loss_class: type[Loss]) -> None:
    door = Door(loss_class)

    def total(point: Tensor) -> Tensor:
        return door(point).sum()

    gradient, value = torch.func.grad_and_value(total)(door.point)
    assert_close(gradient, door.of_the_sum())
    assert_close(value, total(door.point))
    assert_close(torch.func.grad(total)(door.point), door.of_the_sum())
    assert_close(torch.func.jacrev(door)(door.point), door.jacobian)
    several = torch.stack([door.point, 2 * door.point])
    assert_close(torch.vmap(door)(several), torch.stack([door(point) for point in several]))
    of_each = [torch.func.grad(total)(point) for point in several]
    assert_close(torch.vmap(torch.func.grad(total))(several), torch.stack(of_each))


@every_door
def test_vmap_over_backward_equals_each_gradient(loss_class: type[Loss]) -> None:
    door = Door(loss_class)
    point, values = door.values_with_gradient()
    each = torch.eye(values.numel(), dtype=values.dtype).reshape(values.numel(), *values.shape)

    def pulled_back(upstream: Tensor) -> Tensor:
        return torch.autograd.grad(values, point, upstream, retain_graph=True)[0]

    torch.autograd.grad(values.sum(), point, retain_graph=True)  # what is computed along with the values is used up
    for _ in range(2):
        assert_close(torch.vmap(pulled_back)(each).reshape(door.jacobian.shape), door.jacobian)


@every_door
def test_forward_mode_gives_the_slope_along_a_direction(loss_class: type[Loss]) -> None:
    door = Door(loss_class)
    direction = torch.randn(door.point.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with forward_ad.dual_level():
        slope = forward_ad.unpack_dual(door(forward_ad.make_dual(door.point, direction))).tangent
    kept = door.jacobian.ndim - door.point.ndim
    assert slope is not None
    assert_close(slope, (door.jacobian * direction).flatten(kept).sum(-1))


@every_door
def test_repeated_and_double_backward_are_right(loss_class: type[Loss]) -> None:
    door = Door(loss_class)
    point, values = door.values_with_gradient()
    weight = torch.linspace(-1, 2, values.numel(), dtype=values.dtype).reshape(values.shape)
    (first,) = torch.autograd.grad(values, point, weight, retain_graph=True)
    (second,) = torch.autograd.grad(values, point, 2 * weight, retain_graph=True)
    assert_close(second, 2 * first)
    (again,) = torch.autograd.grad(values, point, weight, create_graph=True)
    assert_close(again, first)
    step = 1e-6 * torch.randn(point.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (curvature,) = torch.autograd.grad(again.square().sum(), point)
    moved = [(door.point + sign * step).requires_grad_() for sign in (-1, 1)]
    ends = [torch.autograd.grad(door(end), end, weight)[0].square().sum() for end in moved]
    assert float((curvature * step).sum() * 2) == pytest.approx(float(ends[1] - ends[0]), rel=1e-4, abs=1e-12)


@pytest.mark.parametrize("name", ["CrossEntropyLoss", "FocalLoss"])
def test_logits_changed_in_place_before_backward_change_no_gradient(name: str) -> None:
    logits = torch.randn(9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    target = torch.arange(9) % 4
    (wanted,) = torch.autograd.grad(getattr(losses, name)()(logits, target), logits)
    scores = logits * 1
    value = getattr(losses, name)()(scores, target)
    with torch.no_grad():
        scores.zero_()
    assert_close(torch.autograd.grad(value, logits)[0], wanted)


def test_second_backward_after_the_graph_is_freed_is_an_error() -> None:
    logits = torch.randn(9, 4, requires_grad=True)
    value = losses.CrossEntropyLoss()(logits, torch.arange(9) % 4)
    value.backward()
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        value.backward()
