"""Schedules of weights: their curves, what is refused, and how an objective follows them."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pool import Pool

from lossframe import InputError, Objective
from lossframe.__main__ import main
from lossframe.losses import L1Loss, MSELoss
from lossframe.objectives.schedules import KINDS, schedule
from lossframe.objectives.weighting import RunningMean

FRAME = {"prediction": torch.tensor([1.0, 3.0]), "target": torch.zeros(2)}
CURVES: dict[str, tuple[dict[str, Any], dict[float, float]]] = {
    "constant": ({"value": 2, "from": 1, "until": 3}, {0: 0, 1: 2, 2.9: 2, 3: 0}),
    "linear": ({"start": 1, "end": 3, "from": 2, "until": 4}, {0: 1, 2: 1, 3: 2, 4: 3, 9: 3}),
    "cosine": ({"start": 0, "end": 2, "until": 4}, {0: 0, 1: 1 - math.cos(math.pi / 4), 2: 1, 4: 2, 5: 2}),
    "exponential": ({"start": 1, "end": 100, "until": 4}, {0: 1, 2: 10, 3: 10**1.5, 4: 100, 5: 100}),
    "piecewise": ({"points": {1: 2, 3: 4, "5": 0}}, {0: 2, 1: 2, 2: 3, 3: 4, 4: 2, 5: 0, 6: 0}),
    "step": ({"start": 8, "factor": 0.5, "every": 2, "from": 1}, {0: 8, 2.9: 8, 3: 4, 5.5: 2, 7: 1}),
    "cyclic": ({"start": 0, "end": 1, "period": 4, "until": 6}, {0: 0, 1: 0.5, 2: 1, 3: 0.5, 4: 0, 5: 0.5, 6: 1, 7: 1}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_weight_of_each_kind_follows_its_curve(kind: str) -> None:
    parameters, wanted = CURVES[kind]
    found = schedule("mse", {"kind": kind, **parameters})
    assert {x: found.at(x) for x in wanted} == pytest.approx(wanted)


LINEAR = {"kind": "linear", "start": 0, "end": 1, "until": 4}


@pytest.mark.parametrize(
    ("term", "given", "message"),
    [
        ("l1", {**LINEAR, "kind": "linaer"}, r"schedule.l1.kind=linaer: wanted one of .* Did you mean 'linear'\?"),
        ("l1", {"start": 0}, "schedule.l1.kind=None: wanted one of"),
        ("l1", {**LINEAR, "end": None}, "schedule.l1: kind 'linear' wants 'start', 'end', 'until'; 'end' is missing"),
        ("l1", {**LINEAR, "form": 1}, "schedule.l1.form: kind 'linear' takes .* Did you mean 'from'"),
        ("l1", {**LINEAR, "from": 5}, "schedule.l1: until 4 comes before from 5"),
        ("l1", {**LINEAR, "unit": "epoch"}, r"schedule.l1.unit=epoch: wanted one of .*Did you mean 'epochs'"),
        ("l1", {**LINEAR, "end": "high"}, "schedule.l1.end=high: wanted a finite number"),
        ("l1", {**LINEAR, "end": math.nan}, "schedule.l1.end=nan: wanted a finite number"),
        ("l1", {**LINEAR, "kind": "exponential"}, "wants start and end of one sign, neither 0"),
        ("l1", {"kind": "piecewise", "points": {3: 1, 2: 0}}, "wanted points in the order of progress"),
        ("l1", {"kind": "piecewise", "points": 3}, "wanted points, progress -> weight"),
        ("l1", {"kind": "step", "start": 1, "factor": 1, "every": 0}, "schedule.l1.every=0: wanted more than 0"),
        ("l1", 0.5, "schedule.l1=0.5: wanted a mapping, found float"),
        ("l2", LINEAR, "schedule.l2: the terms are 'mse', 'l1'"),
    ],
)
def test_wrong_schedule_is_refused_in_one_line(term: str, given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Objective({"mse": MSELoss(), "l1": L1Loss()}, schedule={term: given})
    assert "\n" not in str(caught.value)


def scheduled(unit: str, weighting: Any = None) -> Objective:
    return Objective(
        {"mse": MSELoss(), "l1": L1Loss()}, {"l1": 7.0}, weighting=weighting, schedule={"l1": {**LINEAR, "unit": unit}}
    )


def test_weight_is_the_schedules_number_of_the_progress_and_an_evaluation_uses_the_last() -> None:
    criterion = scheduled("epochs")
    assert criterion.weights["l1"] == 0, "that of the start, not the configured one"
    with pytest.raises(InputError, match=r"schedule.l1 follows the epochs of training, .* objective.advance"):
        criterion(FRAME)
    criterion.eval()
    assert criterion(FRAME).item() == 5, "an evaluation needs no progress"
    criterion.train()
    for epochs in (0.0, 1.0, 2.0, 8.0):
        criterion.advance(steps=0, epochs=epochs)
        assert criterion(FRAME).item() == pytest.approx(5 + 2 * min(epochs / 4, 1))
    restored = scheduled("epochs").eval()
    restored.load_state_dict(criterion.state_dict())
    assert restored(FRAME).item() == 7
    scaled = scheduled("steps", RunningMean)
    scaled.advance(steps=2)
    scaled(FRAME)
    assert scaled.moments()["weight/l1"].mean == pytest.approx(0.5 / 2), "it multiplies balanced weights"


def of_samples(rank: int, shares: list[int]) -> list[float]:
    """Return the weights of calls whose schedule counts samples."""
    criterion, found = scheduled("samples"), []
    for _ in range(3):
        criterion.advance(steps=0, epochs=0)
        found.append(criterion.weights["l1"])
        rows = torch.ones(shares[rank])
        criterion({"prediction": rows, "target": 0 * rows})
    return found


def test_schedule_over_samples_counts_those_of_all_ranks(pool: Pool) -> None:
    for shares in ([3], [2, 1], [0, 3], [1, 0, 2]):
        for found in pool.run(len(shares), of_samples, shares) if len(shares) > 1 else [of_samples(0, shares)]:
            assert found == [0, 0.75, 1]


def test_command_prints_the_weights_and_draws_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "weights.png"
    text = "schedule.center={kind: linear, start: 0, end: 0.01, until: 4, unit: steps}"
    assert main(["schedule", "loss=[cross_entropy,center]", text, "--points", "6", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("weight/center  linear: from 0, start 0, end 0.01, until 4\n")
    assert "\n           2         0.005  ███████████████\n" in printed
    assert out.read_bytes().startswith(b"\x89PNG")
    for arguments, message in (
        (["loss=center"], "wanted a schedule, found none"),
        (["loss=center", "schedule.centre={kind: linear}"], "schedule.centre: the terms are 'center'"),
        (["loss=center", text, "--out", "nowhere/x.png"], "--out=nowhere/x.png: No such file"),
        (["loss=center", text, "--points=1"], "--points=1: wanted 2 or more"),
        (["loss=centre", text], "'center'"),
    ):
        assert main(["schedule", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error, error
        assert error.count("\n") == 1
