"""The comparison has one column for each option that was changed, and marks the best of runs measured alike only."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from lossframe.report.comparison import comparison
from lossframe.report.config import differences, measured
from lossframe.report.document import Table, Text
from lossframe.report.events import Curve, Stage
from lossframe.report.runs import Run, _interpolated

Configure = Callable[..., DictConfig]

CONFIG: dict[str, Any] = {
    "seed": 1,
    "loss": {"mse": {"_target_": "lossframe.losses.MSELoss", "reduction": "mean", "log_std": True}},
    "data": {
        "_target_": "lossframe.data.Digits", "seed": 1, "split": "samples", "val_fraction": 0.1, "test_fraction": 0.3,
        "batch_size": 80, "label_noise": 0.0, "root": "a", "black": 0.0, "sampler": {"samples_per_class": 8},
    },
    "trainer": {"limit_val_batches": 1.0, "limit_test_batches": 1.0, "max_epochs": 20},
    "metrics": {"accuracy": {"metric": {"average": "micro"}}},
    "optimizer": {"lr": 0.1},
}  # fmt: skip


def changed(**changes: Any) -> dict[str, Any]:
    """Return the configuration with other values of dotted keys, whose dots are written as two underscores."""
    config = copy.deepcopy(CONFIG)
    for key, value in changes.items():
        *groups, name = key.split("__")
        inner = config
        for group in groups:
            inner = inner[group]
        inner[name] = value
    return config


def a_run(name: str, config: dict[str, Any], scores: dict[str, float]) -> Run:
    curves = {tag: Curve(np.array([10.0]), np.array([value])) for tag, value in scores.items()}
    return Run(name, Path(name), {"val": Stage(scalars=curves)}, Stage(), config, frozenset(), [], {}, {}, "", [])


def column(runs: list[Run], head: str) -> list[Any]:
    table = next(block for block in comparison(runs).blocks if isinstance(block, Table))
    return [row[list(table.head).index(head)] for row in table.rows]


OTHER_SAMPLES: list[dict[str, Any]] = [
    {"data___target_": "lossframe.data.Mnist5k"}, {"data__seed": 2}, {"data__split": "classes"}, {"data__root": "b"},
    {"data__val_fraction": 0.2}, {"data__test_fraction": 0.2}, {"data__black": -1.0},
    {"trainer__limit_val_batches": 2}, {"trainer__limit_test_batches": 0.5},
]  # fmt: skip
SAME_MEASURE: list[dict[str, Any]] = [
    {"seed": 2}, {"optimizer__lr": 0.2}, {"trainer__max_epochs": 3}, {"data__label_noise": 0.1},
    {"data__sampler": {"samples_per_class": 4}}, {"loss__mse__log_std": False},
]  # fmt: skip


@pytest.mark.parametrize("tag", ["accuracy", "loss/mse"])
def test_values_compare_only_if_measured_alike_on_the_same_samples(tag: str) -> None:
    own = {"loss/mse": {"loss__mse__reduction": "sum"}, "accuracy": {"metrics__accuracy__metric": {"average": "macro"}}}
    for change in (*OTHER_SAMPLES, own[tag]):
        assert measured(changed(**change), tag) != measured(CONFIG, tag), change
    for change in SAME_MEASURE:
        assert measured(changed(**change), tag) == measured(CONFIG, tag), change
    assert (measured(changed(data__batch_size=40), tag) == measured(CONFIG, tag)) == (tag == "accuracy")


def test_best_is_marked_among_runs_on_the_same_split_only() -> None:
    scores = [(1, 0.5), (1, 0.6), (2, 0.9), (2, 0.7), (3, 0.99)]
    runs = [a_run(f"{seed} {score}", changed(data__seed=seed), {"accuracy": score}) for seed, score in scores]
    assert [cell.best for cell in column(runs, "val accuracy")] == [False, True, True, False, False]


def test_metric_of_one_run_only_stays_in_the_table() -> None:
    runs = [a_run("a", CONFIG, {"accuracy": 0.5, "auroc": 0.7}), a_run("b", CONFIG, {"accuracy": 0.6})]
    assert [cell.text for cell in column(runs, "val auroc")] == ["0.7", "-"]
    assert not any(cell.best for cell in column(runs, "val auroc"))
    assert Text("In one run only, and drawn there: auroc.") in comparison(runs).blocks


@pytest.mark.parametrize(
    ("override", "columns"),
    [
        ("seed", {"seed": ["1", "2"]}),
        ("data.seed", {"data.seed": ["1", "2"]}),
        ("trainer.max_epochs", {"trainer.max_epochs": ["1", "2"]}),
        ("trainer.devices", {"trainer.devices": ["1", "2"]}),
        ("data.batch_size", {"data.batch_size": ["1", "2"]}),
        ("model.embedding_size", {"model.embedding_size": ["1", "2"]}),
        ("optimizer.lr", {"optimizer.lr": ["1", "2"]}),
        ("scheduler.eta_min", {"scheduler.eta_min": ["1", "2"]}),
        ("loss.triplet.margin", {"loss.triplet.margin": ["1", "2"]}),
        ("weights.center", {"weights.center": ["1", "2"]}),
        ("log_every", {"log_every": ["1", "2"]}),
        ("callbacks.monitor.log_every", {"callbacks.monitor.log_every": ["1", "2"]}),
        ("run_dir", {}),
    ],
)
def test_option_that_was_swept_has_one_column(
    configure: Configure, override: str, columns: dict[str, list[str]]
) -> None:
    base = ("loss=[triplet,center]", "scheduler=cosine")
    composed = [configure(*base, f"{override}={value}") for value in (1, 2)]
    resolved: list[Any] = [OmegaConf.to_container(config, resolve=True) for config in composed]
    derived = [_interpolated(OmegaConf.to_yaml(config)) for config in composed]
    assert len(yaml.safe_load(OmegaConf.to_yaml(composed[0]))) == len(resolved[0])
    found = differences([{**config, "run_dir": None} for config in resolved], derived)
    assert found == columns
