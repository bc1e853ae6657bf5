"""Ctrl-C and SIGTERM end a run so that a resumed run loses nothing."""

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
from omegaconf import DictConfig

from lossframe import Learner
from lossframe.training.run import run

Configure = Callable[..., DictConfig]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_ctrl_c_in_the_last_validation_tests_nothing(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = Learner.validation_step

    def interrupted(learner: Learner, batch: Any, batch_idx: int) -> Any:
        if learner.current_epoch == 1 and batch_idx == 0:
            signal.raise_signal(signal.SIGINT)
        return original(learner, batch, batch_idx)

    options = ["logger=tensorboard", "trainer.precision=64-true"]
    monkeypatch.setattr(Learner, "validation_step", interrupted)
    monkeypatch.setattr(signal, "SIG_IGN", signal.getsignal(signal.SIGINT))  # Lightning's, which later tests would have
    with pytest.raises(SystemExit):
        run(configure(*options, "trainer.max_epochs=2"))
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert f"Stopped. To resume: lossframe train ckpt={last}" in capsys.readouterr().out
    assert not (tmp_path / "metrics.json").exists()
    monkeypatch.undo()
    run(configure(*options, "trainer.max_epochs=3", f"ckpt={last}"))
    run(configure(*options, "trainer.max_epochs=3", f"run_dir={tmp_path / 'whole'}"))
    for stage in ("train", "val", "test"):
        stopped, whole = read(tmp_path / stage), read(tmp_path / "whole" / stage)
        for tag in whole.keys() - {"samples_per_second"}:
            assert stopped[tag] == whole[tag]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_usr1_in_an_epoch_under_slurm_loses_no_hard_sample(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Learner.training_step
    options = [f"trainer.{each}" for each in ("max_epochs=2", "precision=64-true")]
    options += ["callbacks=[default,hard_samples]", "logger=tensorboard"]

    def interrupted(learner: Learner, batch: Any, batch_idx: int) -> Any:
        if learner.current_epoch == 1 and batch_idx == 6:
            signal.raise_signal(signal.SIGUSR1)
        return original(learner, batch, batch_idx)

    monkeypatch.setattr(Learner, "training_step", interrupted)
    monkeypatch.setattr(signal, "SIG_IGN", signal.getsignal(signal.SIGINT))  # Lightning's, which later tests would have
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with pytest.raises(SystemExit, match="138"):
        run(configure(*options))
    monkeypatch.undo()
    run(configure(*options, f"ckpt={tmp_path / 'checkpoints' / 'last.ckpt'}"))
    run(configure(*options, f"run_dir={tmp_path / 'whole'}"))
    written = sorted(path.name for path in (tmp_path / "whole" / "hard").glob("*.csv"))
    assert "train_triplet.csv" in written
    for name in written:
        assert (tmp_path / "hard" / name).read_text() == (tmp_path / "whole" / "hard" / name).read_text(), name
    events = [path.read_bytes() for path in (tmp_path / "val").glob("events*")]
    assert sum(each.count(b"_hparams_/session_start_info") for each in events) == 1, "one session in the tab HParams"


@pytest.mark.slow
def test_sigterm_saves_a_checkpoint_that_goes_on(tmp_path: Path, command: Command) -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", str(ROOT / "train.py"), "trainer.max_epochs=500", "hydra.run.dir=stopped", "seed=7"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    last = tmp_path / "stopped" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert f"Stopped. To resume: lossframe train ckpt={last}" in output
    stopped = torch.load(last, weights_only=False)
    result = command(f"ckpt={last}", f"trainer.max_epochs={stopped['epoch'] + 2}")
    assert result.returncode == 0, result.stderr
    assert "seed: 7" in (tmp_path / "stopped" / "resolved.yaml").read_text().splitlines()
    steps = [step for step, _ in read(tmp_path / "stopped" / "train")["loss/triplet"]]
    assert steps == sorted(set(steps))
    assert steps[-1] == (stopped["epoch"] + 2) * 13 * 80
