"""The loss has the value that its formula gives, and a training step runs."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from loss import LogCoshLoss

PROJECT = Path(__file__).parent.parent


def test_loss_is_log_cosh_of_the_error():
    value = LogCoshLoss()(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 3.0]))
    assert value.item() == pytest.approx(0.433781 / 2, abs=1e-6)


def test_one_step_trains(tmp_path):
    command = [sys.executable, "-m", "lossframe", "train", "trainer.max_steps=1", f"run_dir={tmp_path}/run"]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "run" / "metrics.json").exists()
