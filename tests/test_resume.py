"""A run that is killed and goes on shows and trains what it would have without: no gap, no overlap, no double count."""

import csv
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from curves import read

pytestmark = pytest.mark.slow
OPTIONS = [
    "loss=[cross_entropy,center]", "weights.center=0.01", "trainer.enable_progress_bar=false", "log_every=5",
    "+callbacks.last.every_n_train_steps=7",
]  # fmt: skip


def numbers(run: Path) -> dict[str, Any]:
    """Return all that a run left, except what clocks decide."""
    curves = {
        f"{stage}/{tag}": points
        for stage in ("train", "val", "test")
        for tag, points in read(run / stage).items()
        if tag != "samples_per_second"
    }
    with (run / "csv" / "metrics.csv").open() as file:
        rows = [{k: v for k, v in row.items() if v and "per_second" not in k} for row in csv.DictReader(file)]
    return {
        "curves": curves,
        "rows": sorted(rows, key=str),
        "metrics": (run / "metrics.json").read_text().split("\n")[:-3],
    }


@pytest.mark.parametrize("trainer", [["trainer=cpu"], ["trainer=ddp_cpu", "trainer.devices=2"]], ids=["one", "two"])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    command: Callable[..., Any], tmp_path: Path, trainer: list[str]
) -> None:
    options = [*OPTIONS, *trainer, "trainer.max_epochs=5", "trainer.precision=64-true"]
    whole = command(*options, "hydra.run.dir=whole")
    assert whole.returncode == 0, whole.stderr
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *options, "hydra.run.dir=killed"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    last = tmp_path / "killed" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not (last.exists() and torch.load(last, weights_only=False)["global_step"] >= 28):
        assert time.monotonic() < deadline
        assert process.poll() is None, "the run was over before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(3 * (len(trainer) - 1))  # the other rank notices
    again = command(f"ckpt={last}")
    assert again.returncode == 0, again.stderr
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "whole")
    states = [
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=False) for name in ("whole", "killed")
    ]
    assert states[0]["global_step"] == states[1]["global_step"] > 60
    for name, tensor in states[0]["state_dict"].items():
        if isinstance(tensor, torch.Tensor):
            assert torch.equal(tensor, states[1]["state_dict"][name]), name
