"""Weights & Biases offline, MLflow in a file, and CSV hold the same numbers."""

import csv
import json
import struct
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

pytestmark = pytest.mark.slow
Command = Callable[..., CompletedProcess[str]]
Points = dict[str, list[tuple[int, float]]]


def train(command: Command, logger: str) -> None:
    result = command(
        "loss=[triplet,center]", "weights.center=0.01", f"logger=[csv,{logger}]", "trainer.max_epochs=2",
        "trainer.enable_progress_bar=false", "hydra.run.dir=run",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


def in_csv(run: Path) -> Points:
    """Return stage/tag -> [(step, value), ...]."""
    points: Points = defaultdict(list)
    with (run / "csv" / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            step = int(row.pop("step"))
            assert int(row.pop("samples_seen")) >= int(row.pop("epoch"))
            for name, value in row.items():
                if value:
                    points[name].append((step, float(value)))
    assert {name.partition("/")[0] for name in points} == {"train", "val", "test"}
    return points


def records(file: Path) -> Iterator[bytes]:
    """Yield what a .wandb file holds: LevelDB's log format, blocks of 32 KiB after 7 bytes of header."""
    content, at, record = file.read_bytes(), 7, b""
    assert content[:4] == b":W&B"
    while at < len(content):
        if 0x8000 - at % 0x8000 < 7:  # no room for another record's header in this block
            at += 0x8000 - at % 0x8000
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)  # checksum, bytes, whole 1, first 2, middle 3, last 4
        record = content[at + 7 : at + 7 + length] if kind in (1, 2) else record + content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield record


def test_weights_and_biases_holds_the_numbers_of_csv(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="needs pip install lossframe[wandb]")
    from wandb.proto.wandb_internal_pb2 import Record

    train(command, "wandb")
    (file,) = (tmp_path / "run").glob("wandb/offline-run-*/run-*.wandb")
    points: Points = defaultdict(list)
    config: dict[str, Any] = {}
    for content in records(file):
        record = Record.FromString(content)
        row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        config |= {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.config.update}
        for name, value in row.items():
            if name.partition("/")[0] in ("train", "val", "test"):
                points[name].append((row["trainer/global_step"], value))
    assert points == in_csv(tmp_path / "run")
    assert config["optimizer.lr"] == 0.001
    assert config["weights.center"] == 0.01


def test_mlflow_holds_the_numbers_of_csv(command: Command, tmp_path: Path) -> None:
    for package in ("mlflow", "sqlalchemy", "alembic"):
        pytest.importorskip(package, reason="needs pip install lossframe[mlflow]")
    train(command, "mlflow")
    numbers, parameters = in_mlflow(f"sqlite:///{tmp_path}/run/mlflow.db")
    assert numbers == in_csv(tmp_path / "run")
    assert parameters["optimizer.lr"] == "0.001"
    assert parameters["weights.center"] == "0.01"


def in_mlflow(uri: str) -> tuple[Points, dict[str, str]]:
    """Return stage/tag -> [(step, value), ...] and the parameters of the only run."""

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        client = MlflowClient(uri)
        (experiment,) = (found for found in client.search_experiments() if found.name == "lossframe")
        (found,) = client.search_runs([experiment.experiment_id])
        assert found.info.status == "FINISHED"
        points = {
            name: [(point.step, point.value) for point in client.get_metric_history(found.info.run_id, name)]
            for name in found.data.metrics
            if name not in ("samples_seen", "epoch")
        }
    return points, found.data.params
