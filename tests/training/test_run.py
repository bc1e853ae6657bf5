"""A configured run writes curves, CSV rows and closing metrics of the values that its losses returned."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from curves import read
from omegaconf import DictConfig

from lossframe import Objective
from lossframe.losses import BatchAllTripletLoss, CenterLoss
from lossframe.training.run import run

Configure = Callable[..., DictConfig]


Record = tuple[int, np.ndarray, np.ndarray]
"""Number of training batches before a call, values, and how many values each stands for."""


class Recorder:
    """Records every value that a method returns, and the number of training batches before it.

    `standing(values, inputs)` returns the values to record, and how many values each stands for.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, method: str, standing: Any) -> None:
        self.train: list[Record] = []
        self.val: list[Record] = []
        original = getattr(owner, method)

        def recorded(module: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
            values: torch.Tensor = original(module, *args, **kwargs)
            found = standing(values.detach().double().numpy().reshape(-1).copy(), *args, *kwargs.values())
            (self.train if module.training else self.val).append((len(self.train) + module.training, *found))
            return values

        monkeypatch.setattr(owner, method, recorded)


def of_samples(values: np.ndarray, *inputs: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Let each value stand for itself."""
    return values, np.ones_like(values)


def of_batch(total: np.ndarray, frame: dict[str, torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Let the total stand for the samples of its batch."""
    return total, np.array([float(len(next(iter(frame.values()))))])


def of_triplets(values: np.ndarray, embeddings: torch.Tensor, labels: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Turn an anchor's value into the mean over its triplets; anchors without triplets are no values."""
    same = (labels.reshape(-1, 1) == labels.reshape(-1)).double().sum(1).numpy()
    triplets = (same - 1) * (len(values) - same)
    kept = triplets > 0
    values, triplets = values[kept] * triplets.sum() / len(values), triplets[kept]
    return values / triplets, triplets * kept.sum() / triplets.sum()


def windows(records: list[Record], ends: list[int]) -> list[list[Record]]:
    """Return the records made after one batch count of `ends` and up to the next."""
    return [
        [record for record in records if start < record[0] <= end] for start, end in zip([0, *ends], ends, strict=False)
    ]


def read_off(statistic: str, records: list[Record]) -> float:
    """Return a statistic of recorded values, by numpy."""
    values, counts = (np.concatenate([record[k] for record in records]) for k in (1, 2))
    mean = np.average(values, weights=counts)
    std = np.average((values - mean) ** 2, weights=counts) ** 0.5
    return {"": mean, "_std": std, "_min": values.min(), "_max": values.max()}[statistic]


RECORDED = {
    "triplet": (BatchAllTripletLoss, "loss", of_triplets),
    "center": (CenterLoss, "loss", of_samples),
    "total": (Objective, "forward", of_batch),
}
STATISTICS = ("", "_std", "_min", "_max")
BATCH = 80  # of the default configuration


def assert_points(curve: list[tuple[int, float]], wanted: list[Any]) -> None:
    np.testing.assert_allclose([value for _, value in curve], wanted, rtol=1e-6, atol=1e-9)


def test_curves_equal_numpy_on_the_values_that_the_losses_returned(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recorders = {term: Recorder(monkeypatch, *arguments) for term, arguments in RECORDED.items()}
    overrides = ("loss=[triplet,center]", "loss.triplet.average=all", "weights.center=0.01", "trainer.max_epochs=2")
    run(configure(*overrides, "trainer.num_sanity_val_steps=0"))
    batches = len(recorders["total"].train) // 2
    curves = {stage: read(tmp_path / stage) for stage in ("train", "val")}
    for term, recorder in recorders.items():
        for suffix in STATISTICS if term != "total" else STATISTICS[1:]:
            tag = f"loss/{term}{suffix}"
            ends = [step // BATCH for step, _ in curves["train"][tag]]
            assert ends[-1] == 2 * batches
            assert_points(curves["train"][tag], [read_off(suffix, part) for part in windows(recorder.train, ends)])
            steps = sum(record[0] == batches for record in recorder.val)  # of one validation; the test split is last
            validations = [recorder.val[start : start + steps] for start in (0, steps)]
            assert_points(curves["val"][tag], [read_off(suffix, part) for part in validations])
            assert [step // BATCH for step, _ in curves["val"][tag]] == [batches, 2 * batches]
    for stage in curves.values():
        triplet, center = (np.array(stage[f"loss/{term}"])[:, 1] for term in ("triplet", "center"))
        assert_points(stage["loss/total"], list(triplet + 0.01 * center))
    assert curves["train"]["weight/center"][-1][1] == pytest.approx(0.01)
    assert {"lr", "samples_per_second", "weighted/center", "weighted/triplet"} <= curves["train"].keys()


def test_csv_rows_equal_the_points_of_tensorboard(configure: Configure, tmp_path: Path) -> None:
    import pandas as pd

    run(configure("trainer.max_epochs=1", "~callbacks.hparams"))  # whose points are TensorBoard's only
    rows = pd.read_csv(tmp_path / "csv" / "metrics.csv")
    for stage in ("train", "val", "test"):
        for tag, points in read(tmp_path / stage).items():
            written = rows[["samples_seen", f"{stage}/{tag}"]].dropna().to_numpy()
            np.testing.assert_allclose(written, points, rtol=1e-6)


@pytest.mark.slow
def test_default_run_reaches_precision_of_97_percent(configure: Configure, tmp_path: Path) -> None:
    run(configure("loss=triplet"))
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert report["test/precision_at_1"] >= 0.97
    assert Path(report["checkpoint"]).exists()


@pytest.mark.slow
def test_without_a_validation_the_last_weights_are_tested(configure: Configure, tmp_path: Path) -> None:
    assert run(configure("loss=triplet", "trainer.max_steps=2")) is None
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert report["checkpoint"] is None
    assert 0 < report["test/precision_at_1"] <= 1


@pytest.mark.parametrize("group", ["logger", "callbacks", "metrics"])
def test_run_with_an_empty_group_trains_and_tests(configure: Configure, tmp_path: Path, group: str) -> None:
    run(configure(f"{group}=[]", "trainer.max_epochs=1", f"trainer.default_root_dir={tmp_path}"))
    assert json.loads((tmp_path / "metrics.json").read_text())["checkpoint"]


def test_run_restores_signal_handlers(configure: Configure) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    run(configure("trainer.max_epochs=1", "trainer.limit_train_batches=2", "logger=[]"))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
