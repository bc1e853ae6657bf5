"""Every loss equals the implementation, or the reading, that it stands for: value and gradient, in 334 cases."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from readings import READINGS, Reading, inputs_of, tensor
from torch import Tensor, nn

from lossframe import InputError, Loss, NativeLoss, Objective, losses

CASES = json.loads((Path(__file__).parents[1] / "golden" / "cases.json").read_text())
SEVERAL_GRADIENTS = {"tie", "nondifferentiable_point"}
FLOAT32 = {"rtol": 1e-4, "atol": 1e-5}  # where the reference is float64 only


def reference(case: dict, name: str | None, same_gradient: bool = True) -> dict[str, Any]:
    """Return the value and, where one is known, the gradient of a reading, and how far to trust them in float64."""
    original = case.get("expected64", case["expected"])
    gradient = {"grad": case.get("true_grad_fd", original.get("grad")), "exact": "true_grad_fd" not in case}
    if name is None:
        return {"value": original["value"], "state": original.get("state"), **gradient}
    reading = next(r for r in case["documented"] if r["name"] == name)
    same = {"state": reading.get("state"), "value": reading["value"]}
    if "grad" in reading:
        return {**same, "grad": reading["grad"], "exact": True}
    if reading.get("grad_fd"):
        return {**same, "grad": reading["grad_fd"], "exact": False}
    known = reading["equals_original"] and same_gradient
    return {**same, **gradient} if known else {**same, "grad": None, "exact": False}


def close(ours: Any, theirs: Any, dtype: torch.dtype, case: dict, exact: bool = True) -> None:
    tolerance = {"rtol": 1e-9, "atol": 1e-12} if exact else {"rtol": 1e-6, "atol": 1e-8}
    if dtype == torch.float32:
        tolerance = case["tol"] if case["dtype"] == "float32" else FLOAT32
    wanted = tensor(theirs, dtype)
    ours = torch.as_tensor(ours, dtype=dtype)
    assert ours.isfinite().all()
    known = wanted.isfinite()  # where the original overflows, ours is finite
    torch.testing.assert_close(ours[known], wanted[known], **tolerance)


def check_gradient(value: Tensor, inputs: dict[str, Tensor], wanted: dict, dtype: torch.dtype, case: dict) -> None:
    names = [name for name, x in inputs.items() if x.requires_grad]
    if not names or not value.requires_grad:
        assert not any(wanted["grad"] or {})
        return
    found = torch.autograd.grad(value.sum(), [inputs[name] for name in names], materialize_grads=True)
    for name, gradient in zip(names, found, strict=True):
        assert gradient.isfinite().all()
        theirs = (wanted["grad"] or {}).get(name)
        if theirs is not None and not SEVERAL_GRADIENTS & set(case["tags"]):
            close(gradient, theirs, dtype, case, wanted["exact"])


def check_reading(reading: Reading, case: dict, dtype: torch.dtype) -> None:
    inputs = inputs_of(case, dtype)
    if "raises" in case["expected"]:
        with pytest.raises(InputError, match=r"^\w+: wanted|reads|does not fit"):
            reading.compute(inputs, case["params"])
        return
    wanted = reference(case, reading.name, reading.same_gradient)
    value = reading.compute(inputs, case["params"])
    assert value.dtype == dtype
    close(value.detach(), wanted["value"], dtype, case)
    check_gradient(value, inputs, wanted, dtype, case)
    if wanted["grad"] is None and dtype == torch.float64 and not SEVERAL_GRADIENTS & set(case["tags"]):
        leaves = {name: x for name, x in inputs.items() if x.requires_grad}
        if leaves:  # no reference: then at least the derivative of the value
            fixed = {name: x for name, x in inputs.items() if name not in leaves}
            assert torch.autograd.gradcheck(
                lambda *xs: reading.compute(fixed | dict(zip(leaves, xs, strict=True)), case["params"]),
                list(leaves.values()),
            )


def check_centers(case: dict, dtype: torch.dtype) -> None:
    inputs = inputs_of(case, dtype)
    features, labels = inputs["features"], inputs["labels"]
    criterion = losses.CenterLoss(
        case["params"]["num_classes"], features.shape[-1], case["params"]["alpha"], reduction="sum"
    ).to(dtype)
    wanted = reference(case, "wen2016")
    values, state = [], {}
    for step, (x, y) in enumerate(zip(features, labels, strict=True), start=1):
        values.append(criterion(x, y))
        state[f"centers_after_{step}"] = criterion.centers.clone()
    value = torch.stack(values)
    close(value.detach(), wanted["value"], dtype, case)
    check_gradient(value, inputs, wanted, dtype, case)
    for name, centers in wanted["state"].items():
        close(state[name], centers, dtype, case)


TERMS: dict[str, Callable[[], Loss]] = {
    "absolute_difference": losses.L1Loss,
    "mean_squared_error": losses.MSELoss,
    "softmax_cross_entropy": losses.CrossEntropyLoss,
    "sigmoid_cross_entropy": losses.BinaryCrossEntropyLoss,
    "log_loss": losses.LogLoss,
    "add_loss": losses.AuxiliaryLoss,
}


def objective_of(calls: list[dict], frame: dict[str, Tensor], model: nn.ModuleDict) -> Objective:
    terms: dict[str, Loss] = {}
    inputs: dict[str, dict[str, str]] = {}
    for position, call in enumerate(calls):
        name = "_".join(filter(None, [call.get("scope"), call.get("as", f"term{position}")]))
        if call["fn"] == "add_regularization_loss":
            terms[name] = losses.L1L2Penalty(l1=call["kwargs"]["scale"], l2=0.0, pattern=f"{call['args'][0]}.*")
            continue
        terms[name] = TERMS[call["fn"]]()
        inputs[name] = dict(zip([*terms[name].reads, "weight"], call["args"], strict=False))
        if "weights" in call.get("kwargs", {}):
            inputs[name]["weight"] = f"{name}_weight"
            frame[f"{name}_weight"] = torch.tensor(call["kwargs"]["weights"])
    objective = Objective(terms, inputs=inputs)
    objective.bind(model) if len(model) else None
    return objective


def check_objective(case: dict, dtype: torch.dtype) -> None:
    frame = inputs_of(case, dtype)
    calls, query = case["params"]["calls"], case["params"]["query"]
    penalised = {call["args"][0] for call in calls if call["fn"] == "add_regularization_loss"}
    model = nn.ModuleDict({name: nn.Module() for name in penalised})
    for name, module in model.items():
        module.register_parameter("weight", nn.Parameter(frame[name].detach()))
    objective = objective_of(calls, frame, model)
    everything = objective.terms(frame)
    data = objective.terms(frame, penalties=False)
    registered = {"losses": data, "regularization_losses": {k: v for k, v in everything.items() if k not in data}}
    original = case.get("expected64", case["expected"])
    for name, values in original["state"].items():
        close([value.detach() for value in registered[name].values()], values, dtype, case)
    if query["fn"] == "get_total_loss":
        with_penalties = query.get("kwargs", {}).get("add_regularization_losses", True)
        value = objective(frame) if with_penalties else torch.stack(list(data.values())).sum()
    else:
        chosen = registered["losses" if query["fn"] == "get_losses" else "regularization_losses"]
        scope = query.get("kwargs", {}).get("scope") or ""
        value = torch.stack([v for k, v in chosen.items() if k.startswith(scope)])
    close(value.detach(), original["value"], dtype, case)
    check_gradient(value, frame, {"grad": original["grad"], "exact": True}, dtype, case)


class Recorder:
    """A summary writer that keeps what it is told."""

    def __init__(self) -> None:
        self.rows: list[list] = []

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        self.rows.append([tag, scalar_value, global_step])


def check_memory(case: dict, dtype: torch.dtype) -> None:
    params = case["params"]
    flags = {name: params[name] for name in ("log_std", "log_min", "log_max") if name in params}
    criterion = losses.MSELoss(**flags)
    for position, (name, value) in enumerate(case["inputs"]["log_calls"]):
        if position == params.get("reset_before_call"):
            criterion.reset_avg()
        criterion.log(name, tensor(value, dtype))
    wanted = next(r for r in case["documented"] if r["name"] == "flags_as_documented")
    assert set(criterion.avg) == set(wanted["value"])
    for name, mean in wanted["value"].items():
        close(criterion.avg[name], mean, dtype, case)
    writer = Recorder()
    criterion.summary(params["samples_seen"], writer)
    assert [[tag, x] for tag, _, x in writer.rows] == [[tag, x] for tag, _, x in wanted["state"]["summary_rows"]]
    close(
        tensor([row[1] for row in writer.rows], dtype), [row[1] for row in wanted["state"]["summary_rows"]], dtype, case
    )
    assert set(criterion.avg) == set(wanted["value"])  # a summary resets nothing


class Prediction(NamedTuple):
    out: Tensor
    aux: Tensor


class Truth(NamedTuple):
    lab: Tensor


def native(y_pred: Prediction, y_true: Truth, log_val: Callable[[str, Tensor], None]) -> Tensor:
    squares = (y_pred.out - y_true.lab).square()
    log_val("mse", squares.mean(1))
    log_val("aux", y_pred.aux.abs().mean())
    return squares.mean() + 0.1 * y_pred.aux.abs().mean()


def check_native(case: dict, dtype: torch.dtype) -> None:
    inputs = inputs_of(case, dtype)
    criterion = NativeLoss(native)
    prediction = Prediction(inputs["y_pred.out"], inputs["y_pred.aux"])
    for _ in range(case["params"]["calls"]):
        value = criterion(prediction, Truth(inputs["y_true.lab"]))
    close(value.detach(), case["expected"]["value"], dtype, case)
    check_gradient(value, inputs, {"grad": case["expected"]["grad"], "exact": True}, dtype, case)
    for name, mean in case["expected"]["state"]["avg"].items():
        close(criterion.avg[name], mean, dtype, case)


CHECKS: dict[tuple[str, str], Callable[[dict, torch.dtype], None]] = {
    ("tefla", "center_loss"): check_centers,
    ("blog", "get_center_loss"): check_centers,
    ("tf.contrib.losses", "get_total_loss"): check_objective,
    ("tf.contrib.losses", "add_loss"): check_objective,
    ("tf.contrib.losses", "get_losses"): check_objective,
    ("tf.contrib.losses", "get_regularization_losses"): check_objective,
    ("babilim", "Loss.log/avg/reset_avg/summary"): check_memory,
    ("babilim", "NativeLossWrapper"): check_native,
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_loss_equals_the_original(case: dict, dtype: torch.dtype) -> None:
    key = case["system"], case["function"]
    if key in CHECKS:
        CHECKS[key](case, dtype)
        return
    names = {None, *(reading["name"] for reading in case.get("documented", []))}
    ours = [reading for reading in READINGS[key] if reading.name in names]
    assert ours
    for reading in ours:
        check_reading(reading, case, dtype)


def test_every_reference_case_is_checked() -> None:
    assert len(CASES) == len({case["id"] for case in CASES}) == 334
    functions = Counter((case["system"], case["function"]) for case in CASES)
    assert set(functions) == set(READINGS) | set(CHECKS)
    assert not set(READINGS) & set(CHECKS)
    assert all(READINGS.values())


def test_every_reading_is_documented() -> None:
    documented = {(c["system"], c["function"], r["name"]) for c in CASES for r in c.get("documented", [])}
    ours = {(*key, reading.name) for key, readings in READINGS.items() for reading in readings if reading.name}
    assert ours <= documented
