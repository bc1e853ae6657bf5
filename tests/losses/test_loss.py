"""The contract of `Loss`: calls, options, statistics, errors."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lossframe import InputError, Loss, Objective
from lossframe.losses import AuxiliaryLoss, CenterLoss, CrossEntropyLoss, HuberLoss, L1L2Penalty, MSELoss


class Recorder:
    """A summary writer that keeps its rows."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, int]] = []

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        self.rows.append((tag, scalar_value, global_step))


def test_log_avg_summary_and_reset_avg_follow_babilim() -> None:
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


def test_mean_of_the_statistics_equals_the_weighted_loss() -> None:
    criterion = MSELoss(log_min=True)
    value = criterion(torch.tensor([1.0, 2.0, 3.0]), torch.zeros(3), weight=torch.tensor([2.0, 0.0, 1.0]))
    assert criterion.avg["loss"] == pytest.approx(value.item())
    assert criterion.moments()["loss"].count == 2


def test_recorded_values_do_not_change_with_later_changes_of_tensors() -> None:
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
def test_state_of_a_loss_stays_float32_in_a_half_precision_model(dtype: torch.dtype) -> None:
    criterion = CenterLoss(2, 3, alpha=0.01)
    features, labels = torch.full((4, 3), 1.01), torch.zeros(4, dtype=torch.long)
    nn.ModuleList([criterion]).to(dtype)
    assert criterion.centers.dtype == torch.float32
    assert criterion.double().centers.dtype == torch.float64
    for _ in range(1000):
        criterion(features, labels)
    assert criterion.centers[0].tolist() == pytest.approx([1.01] * 3, abs=1e-3)


def test_bool_and_integer_values_can_be_logged() -> None:
    criterion = MSELoss()
    criterion.log("hit", torch.tensor([True, False, False, True]))
    criterion.log("count", torch.tensor([1, 2]))
    assert criterion.avg == {"hit": 0.5, "count": 1.5}


class LogCosh(Loss):
    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).cosh().log()


@pytest.mark.parametrize("shapes", [((8, 1), (8,)), ((8,), (8, 1)), ((8, 1), (1, 8)), ((8, 1, 3), (8, 3))])
def test_custom_loss_refuses_inputs_that_broadcast(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
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
def test_error_says_what_was_wanted_and_what_was_found(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_loss_class_is_abstract_or_final() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Loss()  # type: ignore[abstract]
    with pytest.raises(TypeError, match="MSELoss is final"):
        type("Better", (MSELoss,), {"loss": lambda self, prediction, target: prediction})


@pytest.mark.parametrize("tied", ["before", "after"])
def test_shared_weight_is_penalised_once(tied: str) -> None:
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
