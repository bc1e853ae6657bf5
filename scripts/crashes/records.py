"""Reads everything that a run has written, except what depends on the clock, to compare two runs."""

import csv
import json
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

_CLOCK = "samples_per_second"


def curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the points of all curves as TensorBoard shows them, `stage/tag` -> [(step, value), ...]."""
    found = {}
    for stage in ("train", "val", "test"):
        events = EventAccumulator(str(run / stage), size_guidance={"scalars": 0})
        events.Reload()
        for tag in events.Tags()["scalars"]:
            if tag != _CLOCK:
                found[f"{stage}/{tag}"] = [(event.step, event.value) for event in events.Scalars(tag)]
    return found


def rows(run: Path, digits: int = 17) -> list[str]:
    """Return the rows of the CSV file, sorted, for those of a resumed run stand in another order."""
    with (run / "csv" / "metrics.csv").open() as file:
        found = [
            {key: f"{float(v):.{digits}g}" for key, v in row.items() if v and _CLOCK not in key}
            for row in csv.DictReader(file)
        ]
    return sorted(json.dumps(row, sort_keys=True) for row in found)


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Return all tensors of the last checkpoint: those of the model and of the optimiser."""
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    state = {name: each for name, each in checkpoint["state_dict"].items() if isinstance(each, torch.Tensor)}
    for index, numbers in checkpoint["optimizer_states"][0]["state"].items():
        state |= {f"optimizer.{index}.{name}": each for name, each in numbers.items()}
    return state


def metrics(run: Path) -> dict[str, float]:
    """Return the numbers of metrics.json."""
    found = json.loads((run / "metrics.json").read_text())
    return {name: value for name, value in found.items() if isinstance(value, float)}


def differences(one: Path, other: Path, digits: int) -> list[str]:
    """Return a line for each record in which two runs differ, and for each point or row that is there twice.

    `digits` of the numbers in CSV files are compared.
    """
    lines = []
    for kind in (curves, metrics, weights):
        a, b = kind(one), kind(other)
        lines += [f"{kind.__name__}: {name}" for name in {**a, **b} if not _equal(a.get(name), b.get(name))]
    a, b = rows(one, digits), rows(other, digits)
    lines += [f"rows: only one has {row}" for row in set(a) ^ set(b)]
    for run, found in ((one, a), (other, b)):
        lines += [f"rows: {run.name} has {row} more than once" for row in set(found) if found.count(row) > 1]
        for tag, points in curves(run).items():
            steps = [step for step, _ in points]
            lines += [f"curves: {run.name} has points of {tag} out of order"] if steps != sorted(set(steps)) else []
    folder = one / "hard"
    for path in sorted(folder.glob("*.csv")):
        if path.read_bytes() != (other / "hard" / path.name).read_bytes():
            lines.append(f"hard samples: {path.name}")
    return [line[:300] for line in lines]


def _equal(one: Any, other: Any) -> bool:
    tensors = isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)
    if tensors:
        return torch.equal(one, other)
    return bool(one == other) or str(one) == str(other)  # as NaN is
