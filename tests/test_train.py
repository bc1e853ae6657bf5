"""The main job, end to end: what train.py trains, writes and says."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from curves import read
from omegaconf import DictConfig

from lossframe import Learner, Objective
from lossframe.losses import BatchAllTripletLoss, CenterLoss
from train import explain, run

Configure = Callable[..., DictConfig]
Command = Callable[..., subprocess.CompletedProcess[str]]


class Recorder:
    """Keeps every value that `method` returns, and after which training batch it did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, method: str) -> None:
        self.train: list[tuple[int, np.ndarray]] = []
        self.val: list[tuple[int, np.ndarray]] = []
        original = getattr(owner, method)

        def recorded(module: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
            values: torch.Tensor = original(module, *args, **kwargs)
            record = (len(self.train) + module.training, values.detach().double().numpy().reshape(-1).copy())
            (self.train if module.training else self.val).append(record)
            return values

        monkeypatch.setattr(owner, method, recorded)


def windows(records: list[tuple[int, np.ndarray]], ends: list[int]) -> list[np.ndarray]:
    """Concatenate the values recorded after one batch count of `ends` and up to the next."""
    return [
        np.concatenate([values for batch, values in records if start < batch <= end])
        for start, end in zip([0, *ends], ends, strict=False)
    ]


def test_curves_equal_numpy_on_the_values_that_the_losses_returned(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recorders = {
        "triplet": Recorder(monkeypatch, BatchAllTripletLoss, "loss"),
        "center": Recorder(monkeypatch, CenterLoss, "loss"),
        "total": Recorder(monkeypatch, Objective, "forward"),
    }
    run(
        configure(
            "loss=[triplet,center]", "weights.center=0.01", "trainer.max_epochs=2", "trainer.num_sanity_val_steps=0"
        )
    )
    batches = len(recorders["total"].train) // 2
    samples = 80 * batches  # the default batch
    curves = {stage: read(tmp_path / stage) for stage in ("train", "val")}
    statistics = {"": np.mean, "_std": np.std, "_min": np.min, "_max": np.max}
    for term, recorder in recorders.items():
        for suffix, statistic in statistics.items():
            written = curves["train"][f"loss/{term}{suffix}"]
            ends = [step // 80 for step, _ in written]
            expected = [statistic(window) for window in windows(recorder.train, ends)]
            np.testing.assert_allclose([value for _, value in written], expected, rtol=1e-6, atol=1e-9)
            assert written[-1][0] == 2 * samples
            validated = curves["val"][f"loss/{term}{suffix}"]
            steps = sum(batch == batches for batch, _ in recorder.val)  # of one validation; the test split comes after
            expected = [
                statistic(np.concatenate([values for _, values in recorder.val[start : start + steps]]))
                for start in (0, steps)
            ]
            np.testing.assert_allclose([value for _, value in validated], expected, rtol=1e-6, atol=1e-9)
            assert [step for step, _ in validated] == [samples, 2 * samples]
    assert curves["train"]["weight/center"][-1][1] == pytest.approx(0.01)
    assert {"lr", "samples_per_second", "weighted/center", "weighted/triplet"} <= curves["train"].keys()


def test_csv_holds_the_same_numbers(configure: Configure, tmp_path: Path) -> None:
    import pandas as pd

    run(configure("trainer.max_epochs=1", "~callbacks.hparams"))  # whose points are TensorBoard's only
    rows = pd.read_csv(tmp_path / "csv" / "metrics.csv")
    for stage in ("train", "val", "test"):
        for tag, points in read(tmp_path / stage).items():
            written = rows[["step", f"{stage}/{tag}"]].dropna().to_numpy()
            np.testing.assert_allclose(written, points, rtol=1e-6)


@pytest.mark.slow
def test_default_run_separates_the_digits(configure: Configure, tmp_path: Path) -> None:
    run(configure("loss=triplet"))
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert report["test/precision_at_1"] >= 0.97
    assert Path(report["checkpoint"]).exists()


@pytest.mark.parametrize(
    ("arguments", "wanted", "found"),
    [
        (["loss=tripplet"], "'triplet'", "loss=tripplet"),
        (["loss.triplet.margn=1"], "'margin'", "loss.triplet.margn"),
        (["weights.nope=1"], "'triplet'", "weights.nope"),
        (["inputs.triplet.lables=labels"], "'labels'", "inputs.triplet.lables"),
        (["inputs.triplet.labels=nope"], "reads 'nope'", "'labels'"),
        (["--config-name=nope"], "'train'", "--config-name=nope"),
    ],
)
def test_bad_input_ends_in_one_line(command: Command, arguments: list[str], wanted: str, found: str) -> None:
    result = command(*arguments, "trainer.max_epochs=1")
    *_, last = result.stderr.strip().splitlines()
    assert result.returncode != 0
    assert last.startswith("error: ")
    assert wanted in last
    assert found in last


@pytest.mark.parametrize(
    ("arguments", "wanted", "found"),
    [
        (["loss=[]"], "at least one loss", "found none"),
        (["loss=cross_entropy", "model.num_classes=5"], "from 0 to 4", "found"),
        (["data=folder", "data.root=empty", "data.num_classes=2"], "CLASS", "empty"),
        (["loss=mse", "inputs.mse.prediction=logits", "inputs.mse.target=labels"], "equal shapes", "[80, 10]"),
        (["log_every=0"], "log_every >= 1", "found 0"),
        (["loss.triplet.margin=wide"], "wanted a number", "loss.triplet.margin=wide"),
        (["data.batch_size=many"], "wanted a number", "data.batch_size=many"),
        (["optimizer.lr=fast"], "wanted a number", "'fast'"),
        (["trainer.max_epochs=all"], "wanted a number", "trainer.max_epochs=all"),
        (["weights.triplet=heavy"], "a finite number", "weights.triplet=heavy"),
        (["seed=-1"], "from 0 to", "seed=-1"),
        (["optimizer.lr=-1"], "optimizer: ", "learning rate: -1"),
        (["scheduler=cosine", "+scheduler.nope=1"], "scheduler: ", "'nope'"),
        (["trainer.limit_train_batches=-3"], "[0.0, 1.0]", "limit_train_batches"),
    ],
)
def test_what_is_wrong_is_explained_in_one_line(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], wanted: str, found: str
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - what is tested is the line that the user sees
        run(configure("trainer.max_epochs=1", "trainer.num_sanity_val_steps=0", *arguments))
    line = explain(caught.value)
    assert line is not None
    assert "\n" not in line
    assert wanted in line
    assert found in line


def test_composing_needs_no_torch(command: Command) -> None:
    spy = "import sys, runpy; sys.argv[:] = sys.argv[1:]\ntry: runpy.run_path(sys.argv[0], run_name='__main__')\n"
    spy += "finally: assert 'torch' not in sys.modules"
    for arguments in (["--cfg", "job", "--resolve"], ["--help"], ["loss=nope"]):
        result = subprocess.run(
            [sys.executable, "-c", spy, str(ROOT / "train.py"), *arguments],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert "AssertionError" not in result.stderr
        assert result.returncode == (1 if arguments == ["loss=nope"] else 0), result.stderr


@pytest.mark.slow
def test_a_run_can_be_repeated_from_its_folder(command: Command, tmp_path: Path) -> None:
    first = command("loss=[triplet,center]", "weights.center=0.01", "trainer.max_epochs=1", "hydra.run.dir=first")
    assert first.returncode == 0, first.stderr
    config = str(tmp_path / "first" / ".hydra")
    again = command("--config-path", config, "--config-name", "config", "hydra.run.dir=second")
    assert again.returncode == 0, again.stderr
    said = (tmp_path / "second" / "overrides.yaml").read_text()
    assert said == f"- --config-path={config}\n- --config-name=config\n"
    numbers = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("first", "second")]
    last = tmp_path / "second" / "checkpoints" / "last.ckpt"
    on = command(f"ckpt={last}", "trainer.max_epochs=2")
    assert on.returncode == 0, on.stderr
    assert [step for step, _ in read(tmp_path / "second" / "val")["loss/triplet"]] == [1040, 2080]
    assert "ckpt: null\n" in (tmp_path / "second" / ".hydra" / "config.yaml").read_text(), "a repetition starts anew"
    elsewhere = command(f"ckpt={last}", "trainer.max_epochs=2", "hydra.run.dir=third")
    assert elsewhere.returncode == 0, elsewhere.stderr
    assert {**numbers[0], "checkpoint": None} == {**numbers[1], "checkpoint": None}


@pytest.mark.slow
def test_a_sweep_has_one_folder_a_run(command: Command, tmp_path: Path) -> None:
    result = command("-m", "loss=triplet,contrastive", "trainer.max_epochs=1", "hydra.sweep.dir=sweep")
    assert result.returncode == 0, result.stderr
    assert {path.parent.name for path in (tmp_path / "sweep").glob("*/metrics.json")} == {"0_triplet", "1_contrastive"}


@pytest.mark.slow
def test_a_second_run_never_writes_over_a_first(command: Command) -> None:
    assert command("trainer.max_epochs=1", "hydra.run.dir=same").returncode == 0
    result = command("trainer.max_epochs=1", "hydra.run.dir=same")
    assert result.returncode != 0
    assert "holds a run already" in result.stderr.splitlines()[-1]


@pytest.mark.slow
def test_without_a_validation_the_last_weights_are_tested(configure: Configure, tmp_path: Path) -> None:
    assert run(configure("loss=triplet", "trainer.max_steps=2")) is None
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert report["checkpoint"] is None
    assert 0 < report["test/precision_at_1"] <= 1


def test_help_names_every_choice_and_shows_what_is_chosen(command: Command) -> None:
    shown = command("loss=[triplet,huber]", "--help", "loss.huber.delta=0.125")
    assert shown.returncode == 0, shown.stderr
    words = shown.stdout.replace(",", " ").split()
    for file in (ROOT / "conf").glob("*/**/*.yaml"):
        assert {file.stem, str(file.parent.relative_to(ROOT / "conf"))} <= set(words)
    assert "    huber:\n" in shown.stdout
    assert "      delta: 0.125\n" in shown.stdout


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("asked", ["--help", "--cfg=job"])
def test_a_reader_that_has_gone_ends_the_answer_quietly(asked: str, buffered: bool) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, *([] if buffered else ["-u"]), str(ROOT / "train.py"), asked]
    try:
        shown = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)
    assert (shown.returncode, shown.stderr) == (1, "")


@pytest.mark.parametrize("group", ["logger", "callbacks", "metrics"])
def test_a_group_may_be_left_empty(configure: Configure, tmp_path: Path, group: str) -> None:
    run(configure(f"{group}=[]", "trainer.max_epochs=1", f"trainer.default_root_dir={tmp_path}"))
    assert json.loads((tmp_path / "metrics.json").read_text())["checkpoint"]


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
    assert f"Stopped. To go on: python train.py ckpt={last}" in capsys.readouterr().out
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
def test_ctrl_c_in_an_epoch_loses_no_hard_sample(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Learner.training_step
    options = [
        "callbacks=[default,hard_samples]",
        "logger=tensorboard",
        "trainer.max_epochs=2",
        "trainer.precision=64-true",
    ]

    def interrupted(learner: Learner, batch: Any, batch_idx: int) -> Any:
        if learner.current_epoch == 1 and batch_idx == 6:
            signal.raise_signal(signal.SIGINT)
        return original(learner, batch, batch_idx)

    monkeypatch.setattr(Learner, "training_step", interrupted)
    monkeypatch.setattr(signal, "SIG_IGN", signal.getsignal(signal.SIGINT))  # Lightning's, which later tests would have
    with pytest.raises(SystemExit):
        run(configure(*options))
    monkeypatch.undo()
    run(configure(*options, f"ckpt={tmp_path / 'checkpoints' / 'last.ckpt'}"))
    run(configure(*options, f"run_dir={tmp_path / 'whole'}"))
    written = sorted(path.name for path in (tmp_path / "whole" / "hard").glob("*.csv"))
    assert "train_triplet.csv" in written
    for name in written:
        assert (tmp_path / "hard" / name).read_text() == (tmp_path / "whole" / "hard" / name).read_text(), name


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 1), (signal.SIGTERM, 143)])
def test_ctrl_c_saves_a_checkpoint_that_goes_on(tmp_path: Path, command: Command, number: int, status: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", str(ROOT / "train.py"), "trainer.max_epochs=500", "hydra.run.dir=stopped", "seed=7"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    last = tmp_path / "stopped" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == status
    assert f"Stopped. To go on: python train.py ckpt={last}" in output
    stopped = torch.load(last, weights_only=False)
    result = command(f"ckpt={last}", f"trainer.max_epochs={stopped['epoch'] + 2}")
    assert result.returncode == 0, result.stderr
    assert "seed: 7" in (tmp_path / "stopped" / "resolved.yaml").read_text().splitlines()
    steps = [step for step, _ in read(tmp_path / "stopped" / "train")["loss/triplet"]]
    assert steps == sorted(set(steps))
    assert steps[-1] == (stopped["epoch"] + 2) * 13 * 80
