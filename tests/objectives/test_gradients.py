"""Gramians of terms: what they are at a place, of every odd term, and as diagnostics."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from methods import METHODS, Net, batch, method, objective
from torch import nn

from lossframe import InputError, LossMonitor, NativeLoss, Objective
from lossframe.callbacks.gradients import TermGradients
from lossframe.losses import L1L2Penalty, MSELoss
from lossframe.objectives.diagnostics import cosines
from lossframe.objectives.weighting import Fixed

TARGET = {"prediction": "first", "target": "one"}


def shown(criterion: Objective, frame: dict[str, Any]) -> Objective:
    """Call an objective so that it records gradients."""
    criterion.shows_gradients = True
    criterion(frame)
    return criterion


@pytest.mark.parametrize("place", ["features", "parameters", ["features"]])
def test_alike_opposite_and_dead_terms_have_the_cosines_1_and_minus_1_and_the_norm_0(place: Any) -> None:
    losses = {
        "a": MSELoss(),
        "alike": MSELoss(),
        "opposite": MSELoss(),
        "dead": NativeLoss(lambda p, t: 0 * (p - t) ** 2),
    }
    criterion = Objective(losses, {"opposite": -2.0}, dict.fromkeys(losses, TARGET), balance_at=place).double()
    net = Net()
    criterion.bind(net)
    criterion = shown(criterion, net(batch(0)))
    found = {name: moments.mean for name, moments in criterion.moments().items()}
    assert criterion.gramian is not None
    assert cosines(criterion.gramian.matrix)[0].tolist() == pytest.approx([1, 1, -1, 0])
    assert found["cosine/a~alike"] == pytest.approx(1)
    assert found["cosine/a~opposite"] == pytest.approx(-1)
    assert found["gradient/dead"] == found["gradient_share/dead"] == 0
    assert found["gradient_share/opposite"] == pytest.approx(0.5)
    assert found["gradient/opposite"] == pytest.approx(2 * found["gradient/a"])
    criterion.reset_avg()
    criterion(net(batch(0)))
    assert not any(name.startswith(("gradient", "cosine")) for name in criterion.moments()), "only where it is due"


def test_gradients_at_parameters_are_those_of_parameters_that_two_terms_share() -> None:
    net, criterion = Net(), objective(None)
    criterion.bind(net)
    shown(criterion, frame := net(batch(0)))
    values = [loss(**{p: frame[e] for p, e in criterion.inputs[n].items()}) for n, loss in criterion.named_losses()]
    rows = [
        torch.cat(
            [
                g.flatten()
                for g in torch.autograd.grad(v, list(net.parameters()), retain_graph=True, materialize_grads=True)
            ]
        )
        for v in values
    ]
    assert criterion.gramian is not None
    assert torch.allclose(criterion.gramian.matrix, torch.stack(rows) @ torch.stack(rows).T)
    alone = Objective({"a": MSELoss(), "b": MSELoss()}, inputs={"a": {"prediction": "p"}, "b": {"prediction": "q"}})
    layers = nn.ModuleDict({"p": nn.Linear(1, 1), "q": nn.Linear(1, 1)})
    alone.bind(layers)
    x = torch.ones(2, 1)
    with pytest.raises(InputError, match="balance_at=parameters: none of the terms 'a', 'b' depends on it"):
        shown(alone, {"p": layers["p"](x), "q": layers["q"](x), "target": x})


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("featurs", "balance_at=featurs: wanted one of 'features', 'first', 'second' .*Did you mean 'features'"),
        ("labels", "without a gradient; choose one of 'features'"),
        ("number", "a single number"),
        ("parameters", "call objective.bind"),
        (3, "balance_at=3: wanted 'parameters', an entry"),
        ([], "wanted 'parameters', an entry"),
    ],
)
def test_place_that_is_none_is_refused(place: Any, message: str) -> None:
    net = Net()
    frame = net(batch(0))
    with pytest.raises(InputError, match=message):
        objective(method("upgrad"), balance_at=place)({**frame, "number": frame["first"].sum()})


def test_term_that_does_not_depend_on_the_place_keeps_its_weight_and_is_warned_of_once() -> None:
    net = Net()
    losses = {"mse": MSELoss(), "huber": MSELoss(), "apart": MSELoss(), "penalty": L1L2Penalty()}
    inputs = {"mse": TARGET, "huber": {"prediction": "second", "target": "other"}, "apart": {"prediction": "x"}}
    criterion = Objective(
        losses, {"apart": 0.5, "penalty": 0.1}, inputs, method("balancer"), balance_at="features"
    ).double()
    criterion.bind(net)
    frame = net(batch(0))
    frame |= {"x": frame["x"].clone().requires_grad_(), "target": frame["x"] + 1}
    with pytest.warns(UserWarning, match="balance_at=features: 'apart' does not depend on it"):
        criterion(frame)
    criterion(net(batch(1)) | {"x": frame["x"], "target": frame["target"]})
    found = criterion.moments()
    assert (found["weight/apart"].mean, found["weight/penalty"].mean) == (0.5, 0.1)
    assert found["weight/mse"].mean != 1


@pytest.mark.parametrize("name", METHODS)
def test_step_that_is_not_finite_changes_no_state_and_evaluation_uses_the_last_weights(name: str) -> None:
    net, criterion = Net(), objective(method(name), balance_at="features")
    for step in range(3):
        criterion.advance(step, step)
        criterion(net(batch(step)))
    before = copy.deepcopy(criterion.weighting.state_dict())
    criterion.advance(3, 2.5)
    broken = net(batch(3))
    assert criterion({**broken, "first": broken["first"] * torch.nan}).isnan()
    after = criterion.weighting.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before), name
    criterion.eval()
    with torch.inference_mode():
        assert criterion(net(batch(4))).isfinite()
    assert all(torch.equal(before[key], criterion.weighting.state_dict()[key]) for key in before)


@pytest.mark.parametrize("name", ["upgrad", "gradnorm", "running_mean", "dwa", "random", "balancer"])
def test_configured_weights_multiply_the_balanced_and_0_leaves_a_term_out(name: str) -> None:
    def weights(configured: dict[str, float]) -> dict[str, float]:
        net, criterion = Net(), objective(method(name), balance_at="features", weights=configured)
        criterion.advance(0, 0.0)
        criterion(net(batch(0)))
        return {n: criterion.moments()[f"weight/{n}"].mean for n in criterion.losses}

    plain, scaled = weights({}), weights({"huber": 3.0})
    shares = {"balancer": 3 / 5}  # of the sum of the configured weights
    assert scaled["mse"] == pytest.approx(plain["mse"] * shares.get(name, 1))
    assert scaled["huber"] == pytest.approx(3 * plain["huber"] * shares.get(name, 1))
    two = objective(method(name), 2, balance_at="features")
    two.advance(0, 0.0)
    two(Net()(batch(0)))
    without = weights({"triplet": 0.0})
    assert without["triplet"] == 0
    assert without["mse"] == pytest.approx(two.moments()["weight/mse"].mean)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_under_autocast_are_close_to_exact_ones_and_the_scale_of_losses_does_not_underflow(dtype: Any) -> None:
    def weights(amp: bool) -> list[float]:
        net, criterion = Net().float(), objective(method("upgrad"), balance_at=["features"]).float()
        frame = {k: v.float() if v.is_floating_point() else v for k, v in batch(0).items()}
        with torch.autocast("cpu", dtype, enabled=amp):
            criterion({**net(frame)}).backward()
        return [criterion.moments()[f"weight/{n}"].mean for n in criterion.losses]

    assert weights(True) == pytest.approx(weights(False), rel=0.05)


def test_micro_batches_have_weights_of_their_own_gramian_and_the_buffer_may_change_before_the_backward_pass() -> None:
    net, criterion = Net(), objective(method("balancer"), balance_at="features")
    (criterion(net(batch(0))) + criterion(net(batch(1)))).backward()
    one = objective(method("balancer"), balance_at="features")
    one(net(batch(0)))
    counted = criterion.moments()["weight/mse"]
    assert counted.count == 2
    assert one.moments()["weight/mse"].mean in (pytest.approx(counted.min), pytest.approx(counted.max))


def test_unknown_class_or_option_of_torchjd_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"torchjd\.aggregation has no UpGradWeighting"):
        objective(method("upgrad", method="UpGrad"))
    with pytest.raises(InputError, match="wanted c >= 0"):
        objective(method("cagrad", c=-1.0))
    with pytest.raises(InputError, match="unexpected keyword argument 'd'"):
        objective(method("pcgrad", d=1))


def test_fixed_is_the_default_and_differentiates_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    criterion = objective(None)
    assert isinstance(criterion.weighting, Fixed)
    monkeypatch.setattr(torch.autograd, "grad", lambda *_, **__: pytest.fail("a gradient was computed"))
    assert criterion(Net()(batch(0))).isfinite()


def test_callback_without_an_objective_is_refused() -> None:
    trainer: Any = SimpleNamespace(callbacks=[LossMonitor()])
    with pytest.raises(
        InputError, match="TermGradients compares the terms of an Objective, and LightningModule has none"
    ):
        TermGradients().setup(trainer, pl.LightningModule(), "fit")
    with pytest.raises(InputError, match="every_n_batches"):
        TermGradients(every_n_batches=0)
