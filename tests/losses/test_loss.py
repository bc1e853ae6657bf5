"""The contract of a loss: wiring, options, weights, reductions, wrapping."""

import subprocess
import sys
from collections import namedtuple
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from lossframe import InputError, Loss, NativeLoss, Objective
from lossframe.losses import AuxiliaryLoss, CenterLoss, CrossEntropyLoss, HuberLoss, L1L2Penalty, MSELoss
from lossframe.losses.base.reduction import align, reduce


class Recorder:
    """A summary writer that keeps its rows."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, int]] = []

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        self.rows.append((tag, scalar_value, global_step))


@pytest.mark.parametrize(
    ("shape", "weight", "aligned"),
    [
        ((4, 3), (), ()),
        ((4, 3), (1,), ()),
        ((4, 3), (4,), (4, 1)),
        ((4, 3), (4, 1), (4, 1)),
        ((4, 3), (1, 3), (1, 3)),
        ((4, 3, 2), (4, 3), (4, 3, 1)),
        ((4,), (4, 1), (4,)),
        ((), (1,), ()),
    ],
)
def test_weights_align_from_the_left(shape: Any, weight: Any, aligned: Any) -> None:
    assert align(torch.ones(weight), torch.zeros(shape)).shape == aligned


@pytest.mark.parametrize("weight", [(3,), (4, 2), (4, 3, 2), (2, 1), (3, 1)])
def test_other_weights_are_refused(weight: Any) -> None:
    with pytest.raises(InputError, match=r"does not fit values \[4, 3\]"):
        align(torch.ones(weight), torch.zeros(4, 3))


def test_reductions() -> None:
    values, weight = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), torch.tensor([2.0, 0.0, -1.0])
    expected = {"sum": -5.0, "mean": -5 / 4, "weighted_mean": -5 / 2, "batch_mean": -5 / 3}
    for reduction, value in expected.items():
        assert reduce(values, weight, reduction).item() == pytest.approx(value)  # type: ignore[arg-type]
    assert reduce(values, weight, "none").tolist() == [[2, 4], [0, 0], [-5, -6]]
    with pytest.raises(InputError, match="Did you mean 'mean'"):
        reduce(values, None, "maen")  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.floats(-10, 10), st.sampled_from([0.0, 0.5, 1.0, -2.0])), max_size=8))
def test_the_mean_is_what_tensorflow_defines(pairs: list[tuple[float, float]]) -> None:
    values = torch.tensor([v for v, _ in pairs], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([w for _, w in pairs], dtype=torch.float64)
    present = sum(w != 0 for _, w in pairs)
    result = reduce(values, weight)
    result.backward()
    assert result.item() == pytest.approx(sum(v * w for v, w in pairs) / max(present, 1), abs=1e-12)
    assert values.grad is not None
    assert values.grad.tolist() == pytest.approx([w / max(present, 1) for _, w in pairs])


@pytest.mark.parametrize("rows", [0, 4])
def test_nothing_that_counts_is_a_zero_with_gradient(rows: int) -> None:
    prediction = torch.randn(rows, 2, requires_grad=True)
    value = MSELoss()(prediction, torch.zeros(rows, 2), weight=torch.zeros(rows))
    value.backward()
    assert value.item() == 0
    assert prediction.grad is not None
    assert prediction.grad.abs().sum() == 0


def test_the_babilim_interface() -> None:
    class Squares(Loss):
        def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
            self.log("largest", prediction.max())
            return (prediction - target) ** 2

    criterion, writer = Squares(log_std=True, log_max=True), Recorder()
    assert criterion.reads == ("prediction", "target")
    criterion(torch.tensor([1.0, 2.0]), torch.zeros(2))
    criterion(prediction=torch.tensor([3.0]), target=torch.zeros(1))
    assert criterion.avg == {"largest": 2.5, "loss": pytest.approx(14 / 3)}
    criterion.summary(3, writer)
    assert [(tag, step) for tag, _, step in writer.rows] == [
        ("largest", 3), ("largest_std", 3), ("largest_max", 3), ("loss", 3), ("loss_std", 3), ("loss_max", 3),
    ]  # fmt: skip
    criterion.reset_avg()
    assert criterion.avg == {}


def test_statistics_see_weighted_values_so_that_their_mean_is_the_loss() -> None:
    criterion = MSELoss(log_min=True)
    value = criterion(torch.tensor([1.0, 2.0, 3.0]), torch.zeros(3), weight=torch.tensor([2.0, 0.0, 1.0]))
    assert criterion.avg["loss"] == pytest.approx(value.item())
    assert criterion.moments()["loss"].count == 2


def test_what_is_remembered_does_not_change_with_what_was_given() -> None:
    scale, criterion = nn.Parameter(torch.tensor(1.0)), MSELoss(reduction="none")
    values = criterion(torch.tensor([2.0]), torch.zeros(1))
    values.zero_()
    criterion.log("scale", scale)
    scale.data.zero_()
    assert criterion.avg == {"loss": 4.0, "scale": 1.0}
    auxiliary, value = AuxiliaryLoss(), torch.tensor([3.0])
    auxiliary(value)
    value.zero_()
    assert auxiliary.avg == {"loss": 3.0}
    objective = Objective({"mse": MSELoss()})
    total = objective({"prediction": torch.tensor([2.0]), "target": torch.zeros(1)})
    total /= 4
    assert objective.moments()["total"].mean == 4.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_loss_is_never_rounded_with_its_model(dtype: torch.dtype) -> None:
    criterion = CenterLoss(2, 3, alpha=0.01)
    features, labels = torch.full((4, 3), 1.01), torch.zeros(4, dtype=torch.long)
    nn.ModuleList([criterion]).to(dtype)
    assert criterion.centers.dtype == torch.float32
    assert criterion.double().centers.dtype == torch.float64
    for _ in range(1000):
        criterion(features, labels)
    assert criterion.centers[0].tolist() == pytest.approx([1.01] * 3, abs=1e-3)


def test_any_value_can_be_logged() -> None:
    criterion = MSELoss()
    criterion.log("hit", torch.tensor([True, False, False, True]))
    criterion.log("count", torch.tensor([1, 2]))
    assert criterion.avg == {"hit": 0.5, "count": 1.5}


class LogCosh(Loss):
    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).cosh().log()


@pytest.mark.parametrize("shapes", [((8, 1), (8,)), ((8,), (8, 1)), ((8, 1), (1, 8)), ((8, 1, 3), (8, 3))])
def test_a_loss_of_ones_own_is_not_broadcast_either(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    prediction, target = (torch.rand(shape) for shape in shapes)
    with pytest.raises(InputError, match=r"^LogCosh: wanted equal shapes, found prediction \["):
        LogCosh()(prediction, target)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HuberLoss(detla=1.0), r"HuberLoss has no option 'detla'; .* Did you mean 'delta'"),
        (lambda: HuberLoss(log_sdt=True), "Did you mean 'log_std'"),
        (lambda: HuberLoss(delta=-1.0), "delta > 0, found -1.0"),
        (lambda: MSELoss(reduction="average"), "reduction 'average' is unknown"),
        (lambda: MSELoss()(torch.ones(2)), r"MSELoss: reads 'prediction', 'target'; it was given 'prediction'"),
        (lambda: MSELoss()(torch.ones(2), traget=torch.ones(2)), "it was given 'prediction', 'traget'"),
        (lambda: MSELoss()(torch.ones(8, 1), torch.ones(8)), r"prediction \[8, 1\] and target \[8\]"),
        (lambda: CrossEntropyLoss()(torch.ones(8, 1), torch.ones(8).long()), "at least 2 classes"),
        (lambda: Objective({}), "at least one loss"),
        (lambda: Objective({"a": nn.MSELoss()}), "wrap it in NativeLoss"),  # type: ignore[dict-item]
        (lambda: Objective({"mse": MSELoss()}, {"mes": 1}), "Did you mean 'mse'"),
        (lambda: Objective({"mse": MSELoss()}, {"mse": float("nan")}), "finite"),
        (lambda: Objective({"mse": MSELoss()}, inputs={"mse": {"predicton": "x"}}), "Did you mean 'prediction'"),
        (lambda: Objective({"mse": MSELoss(reduction="none")}), "reduction='none'"),
        (lambda: Objective({"mse": MSELoss()})({"target": torch.ones(1)}),
         "MSELoss reads 'prediction', but the frame holds only 'target'"),
        (L1L2Penalty(), "call it with the model"),
        (lambda: L1L2Penalty(pattern="conv*")(nn.Linear(1, 1)), "parameters like 'conv\\*', found 'weight', 'bias'"),
    ],
)  # fmt: skip
def test_errors_say_what_was_wanted_and_what_was_found(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_a_loss_is_abstract_or_final() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Loss()  # type: ignore[abstract]
    with pytest.raises(TypeError, match="MSELoss is final"):
        type("Better", (MSELoss,), {"loss": lambda self, prediction, target: prediction})


Pair = namedtuple("Pair", "out aux")


def test_native_losses_of_every_form() -> None:
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
def test_an_optional_third_parameter_keeps_its_default(function: Any) -> None:
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
def test_elementwise_criteria_broadcast_nothing(criterion: Any, reduction: str) -> None:
    native, prediction, target = criterion(reduction=reduction), torch.rand(8, 3), torch.randint(0, 2, (8, 3)).float()
    torch.testing.assert_close(NativeLoss(native)(prediction, target), native(prediction, target))
    with pytest.raises(
        InputError, match=r"NativeLoss: wanted equal shapes, found prediction \[8, 1\] and target \[8\]"
    ):
        NativeLoss(native)(torch.rand(8, 1), torch.ones(8))


def test_a_subclass_of_an_elementwise_criterion_is_any_other_loss() -> None:
    class RootMeanSquare(nn.MSELoss):
        def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
            return super().forward(prediction, target).sqrt()

    criterion = NativeLoss(RootMeanSquare(), relational=True)
    assert criterion.relational
    assert criterion(torch.tensor([1.0, 7.0]), torch.zeros(2)).item() == 5


def test_an_objective_wires_by_name() -> None:
    objective = Objective(
        {"left": MSELoss(), "right": MSELoss(), "decay": L1L2Penalty(l2=1.0)},
        weights={"right": 10.0},
        inputs={"right": {"prediction": "other", "weight": "mask"}},
    )
    model = nn.Linear(1, 1, bias=False)
    objective.bind(model)
    frame = {"prediction": torch.ones(2), "target": torch.zeros(2), "other": torch.full((2,), 2.0)}
    frame["mask"] = torch.tensor([1.0, 0.0])
    terms = objective.terms(frame)
    assert list(terms) == ["left", "right", "decay"]
    assert (terms["left"].item(), terms["right"].item()) == (1, 40)
    assert terms["decay"].item() == pytest.approx(model.weight.item() ** 2 / 2)
    assert list(objective.terms(frame, penalties=False)) == ["left", "right"]
    assert objective(frame).item() == pytest.approx(41 + terms["decay"].item())
    assert objective.reads == {"prediction", "target", "other", "mask"}
    assert objective.moments()["weighted/right"].mean == 40


@pytest.mark.parametrize("tied", ["before", "after"])
def test_a_shared_weight_is_penalised_once(tied: str) -> None:
    model, criterion = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), L1L2Penalty(l2=1.0)
    if tied == "after":
        criterion.bind(model)
    model[1].weight = model[0].weight
    value = criterion() if tied == "after" else criterion(model)
    value.backward()
    weight = model[0].weight
    assert value.item() == pytest.approx(weight.square().sum().item() / 2)
    torch.testing.assert_close(weight.grad, weight.detach())


def test_importing_lossframe_does_not_import_torch() -> None:
    code = (
        "import sys, lossframe.errors; assert 'torch' not in sys.modules; lossframe.Loss; assert 'torch' in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
