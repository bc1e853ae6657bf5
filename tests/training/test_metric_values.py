"""Every configured metric equals scikit-learn's number over the whole split, for any scale, batch size and ranks."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig
from pool import Pool
from sklearn.metrics import accuracy_score, mean_absolute_error, mean_squared_error, r2_score, roc_auc_score
from torch import Tensor

from lossframe import configs
from lossframe.errors import InputError
from lossframe.training.metrics import AUROC, R2Score

Array = NDArray[Any]
SIZE = 83
SCALES = {"probabilities": 0.0, "logits": 3.0, "saturated": 60.0, "huge": 1e9}

SCIKIT: dict[str, Callable[[Array, Array], float]] = {
    "auroc": lambda scores, labels: roc_auc_score(labels, scores),
    "accuracy": lambda logits, labels: accuracy_score(labels, logits.argmax(1)),
    "mean_squared_error": lambda prediction, target: mean_squared_error(target.ravel(), prediction.ravel()),
    "mean_absolute_error": lambda prediction, target: mean_absolute_error(target.ravel(), prediction.ravel()),
    "r2": lambda prediction, target: r2_score(target.ravel(), prediction.ravel()),
}


@cache
def composed(group: str) -> DictConfig:
    with initialize_config_dir(str(configs.root()), version_base=None):
        config = compose(overrides=["+data.num_classes=10", f"+metrics={group}"])
    return config


def configured(group: str) -> dict[str, Any]:
    """Return the metrics of one file of conf/metrics."""
    made: dict[str, Any] = instantiate(composed(group), _convert_="all")["metrics"]
    return made


def frame(scale: float, size: int = SIZE) -> dict[str, Tensor]:
    """Return a split of which a part of the scores lies within [0, 1], with ties; 0 stands for probabilities."""
    generator = torch.Generator().manual_seed(3)

    def numbers(*shape: int) -> Tensor:
        drawn = torch.randn(shape, generator=generator)
        return drawn.sigmoid() if not scale else (drawn * scale).mul(4).round().div(4)

    prediction = numbers(size, 3)
    spread = torch.tensor([1.0, 1e-4, 3.0])  # the second output hardly varies
    return {
        "scores": numbers(size), "labels": torch.arange(size) % 2, "logits": numbers(size, 10),
        "prediction": prediction, "target": spread * (prediction + 0.5 * (scale or 1) * numbers(size, 3) + 4),
    }  # fmt: skip


def results(group: str, whole: dict[str, Tensor], batch_size: int, rank: int = 0, world_size: int = 1) -> Any:
    """Return a group's metrics of a split, in batches of which this rank takes its share."""
    found = {}
    for name, each in configured(group).items():
        for start in range(0, len(whole["labels"]), batch_size):
            mine = [whole[entry][start : start + batch_size][rank::world_size].contiguous() for entry in each["reads"]]
            if len(mine[0]):
                each["metric"].update(*mine)
        found[name] = each["metric"].compute().item()
    return found


def on_a_rank(rank: int, world_size: int, cases: list[tuple[str, float, int, int]]) -> list[Any]:
    return [
        results(group, frame(scale, size), batch_size, rank, world_size) for group, scale, size, batch_size in cases
    ]


OTHERS = {"retrieval", "verification"}  # test_metrics.py has plain loops; the metric of binary, on other entries
GROUPS = [group for group in configs.choices("metrics") if group not in OTHERS]


def test_every_configured_metric_has_a_reference() -> None:
    assert {name for group in GROUPS for name in configured(group)} == set(SCIKIT)


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
@pytest.mark.parametrize("group", GROUPS)
def test_metric_equals_scikit_learn_at_any_batch_size(group: str, scale: float) -> None:
    whole = frame(scale)
    for batch_size in (1, 8, 80):
        for name, found in results(group, whole, batch_size).items():
            read = [whole[entry].numpy() for entry in configured(group)[name]["reads"]]
            wanted = SCIKIT[name](*(each.astype(np.float64) if each.dtype == np.float32 else each for each in read))
            assert found == pytest.approx(wanted, rel=1e-5), (name, batch_size)
            assert wanted > -1e3
            assert wanted not in (0, 1)


@pytest.mark.parametrize("world_size", [2, 3])
def test_metric_of_ranks_equals_that_of_one_process(pool: Pool, world_size: int) -> None:
    cases = [
        (group, 3.0, size, batch) for group in GROUPS for size, batch in ((3, 8), (SIZE, 1), (SIZE, 8), (SIZE, 80))
    ]
    wanted = [results(group, frame(scale, size), size) for group, scale, size, _ in cases]
    for found in pool.run(world_size, on_a_rank, world_size, cases):
        for each, one in zip(found, wanted, strict=True):
            assert each == pytest.approx(one, rel=1e-5)


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric:UserWarning")
def test_metrics_without_a_defined_value_are_nan() -> None:
    for metric in (AUROC(), R2Score()):
        assert metric.compute().isnan()
    for scores, labels in (([0.1, 0.2], [1, 1]), ([0.1, 0.2], [0, 0]), ([0.1, torch.nan], [0, 1])):
        auroc = AUROC()
        auroc.update(torch.tensor(scores), torch.tensor(labels))
        assert auroc.compute().isnan()


@pytest.mark.parametrize("prediction", [[0.25, 0.25, 0.25], [0.25, 0.5, 0.75]])
def test_r2_of_a_constant_target_is_that_of_scikit_learn(prediction: list[float]) -> None:
    metric = R2Score()
    metric.update(torch.tensor(prediction), torch.full((3,), 0.25))
    assert metric.compute().item() == r2_score([0.25] * 3, prediction)


def test_r2_of_a_target_far_from_zero_keeps_its_digits() -> None:
    target = 1e4 + torch.randn(1000, generator=torch.Generator().manual_seed(0))
    prediction = target + 0.5
    metric = R2Score()
    for part in range(0, 1000, 10):
        metric.update(prediction[part : part + 10], target[part : part + 10])
    assert metric.compute().item() == pytest.approx(r2_score(target.double(), prediction.double()), rel=1e-6)


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (torch.zeros(3, 1), torch.zeros(3), r"AUROC reads scores \[N\] .* given \[3, 1\] and \[3\]"),
        (torch.zeros(3), torch.tensor([0, 1, 2]), r"AUROC wanted labels 0 and 1, found \[2\]"),
    ],
)
def test_samples_that_do_not_fit_are_an_input_error(scores: Tensor, labels: Tensor, message: str) -> None:
    metric = AUROC()
    with pytest.raises(InputError, match=message):
        metric(scores, labels)
    with pytest.raises(InputError, match=r"of one shape, but was given \[3, 1\] and \[3\]"):
        R2Score().update(torch.zeros(3, 1), torch.zeros(3))
