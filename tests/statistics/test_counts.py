"""Values that stand for several equal values have the statistics of these values."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lossframe import InputError, Moments
from lossframe.statistics.histogram import RELATIVE_ERROR
from lossframe.statistics.recorder import Recorder

GENERATOR = torch.Generator().manual_seed(0)
COUNTS: dict[str, Any] = {
    "none": lambda shape: None,
    "mask": lambda shape: torch.rand(shape, generator=GENERATOR) < 0.6,
    "mask of rows": lambda shape: torch.rand(shape[0], 1, generator=GENERATOR) < 0.6,
    "whole": lambda shape: torch.randint(0, 5, shape, generator=GENERATOR),
    "whole of rows": lambda shape: torch.randint(0, 5, (shape[0], 1), generator=GENERATOR).float(),
    "scalar": lambda shape: torch.tensor(3),
    "number": lambda shape: 7,
    "no value": lambda shape: 0.0,
}


def repeated(values: Tensor, counts: Any) -> np.ndarray:
    many = torch.as_tensor(1 if counts is None else counts).expand_as(values).reshape(-1).long()
    return np.repeat(values.double().reshape(-1).numpy(), many.numpy())


def check(seen: Moments, exact: np.ndarray) -> None:
    assert [seen.count, seen.mean, seen.std, seen.min, seen.max] == pytest.approx(
        [len(exact), exact.mean(), exact.std(), exact.min(), exact.max()], rel=1e-12
    )
    for q in (0.0, 0.05, 0.5, 0.95, 1.0):
        assert seen.quantile(q) == pytest.approx(np.quantile(exact, q), rel=RELATIVE_ERROR)


@pytest.mark.parametrize("rows", [1, 30, 8000])
@pytest.mark.parametrize("kind", COUNTS)
def test_value_counts_as_often_as_its_count_says(kind: str, rows: int) -> None:
    recorder, exact = Recorder({"log_quantiles": True}), []
    for step in range(70 if rows < 8000 else 2):  # more than one buffer, among others without counts
        for each in (kind, "none") if step % 2 else (kind,):
            values = 5 + torch.randn(rows, 10, generator=GENERATOR)
            counts = COUNTS[each](values.shape)
            recorder.accumulate("loss", values, counts)
            exact.append(repeated(values, counts))
    check(recorder.moments()["loss"], np.concatenate(exact))


@pytest.mark.parametrize("scale", [1e-12, 0.01, 1.0, 1e12])
def test_fractional_counts_give_weighted_moments_and_quantiles(scale: float) -> None:
    values, counts = torch.randn(2, 500, generator=GENERATOR, dtype=torch.float64).exp()
    recorder = Recorder({"log_quantiles": True})
    for part, weights in zip(values.split(50), (scale * counts).split(50), strict=True):
        recorder.accumulate("loss", part, weights)
    seen, weights = recorder.moments()["loss"], scale * counts.numpy()
    mean = np.average(values.numpy(), weights=weights)
    std = np.sqrt(np.average((values.numpy() - mean) ** 2, weights=weights))
    assert [seen.count, seen.mean, seen.std] == pytest.approx([weights.sum(), mean, std], rel=1e-12)
    below = weights[values.numpy() <= seen.quantile(0.5) * (1 + RELATIVE_ERROR)].sum() / weights.sum()
    assert scale < 1 or below == pytest.approx(0.5, abs=0.02)
    assert seen.min <= seen.quantile(0.0) <= seen.quantile(1.0) <= seen.max


def test_logged_mean_of_a_batch_counts_as_its_samples() -> None:
    recorder, values = Recorder({}), torch.arange(10.0)
    for part in values.split(7):
        recorder.log("mean", part.mean(), count=len(part))
    recorder.log("tensor", 2.0, count=torch.tensor(4))
    recorder.log("once", 2.0)
    seen = recorder.moments()
    assert (seen["mean"].count, seen["mean"].mean) == (10, 4.5)
    assert (seen["tensor"].count, seen["once"].count) == (4, 1)


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_wrong_count_is_an_error_or_a_nonfinite_value(wrong: float) -> None:
    recorder = Recorder({})
    with pytest.raises(InputError, match=r"wanted a count >= 0 .*, found (-1|nan|inf)"):
        recorder.log("mean", 1.0, count=wrong)
    recorder.log("mean", 1.0, count=torch.tensor(wrong))
    recorder.log("mean", 3.0, count=torch.tensor(2.0))
    assert (recorder.moments()["mean"].nonfinite, recorder.moments()["mean"].count) == (1, 3)
    counting = Recorder({"log_quantiles": True})
    counting.accumulate("loss", torch.tensor([1.0, 2.0]), torch.tensor([wrong, 4.0]))
    seen = counting.moments()["loss"]
    assert (seen.nonfinite, seen.count) == (1, 5)
    assert seen.histogram is not None
    assert seen.histogram.counts.tolist() == [4]


def test_changed_count_tensor_changes_nothing() -> None:
    recorder, count = Recorder({}), torch.tensor(2.0)
    recorder.log("mean", 1.0, count)
    count.fill_(9)
    assert recorder.moments()["mean"].count == 2
