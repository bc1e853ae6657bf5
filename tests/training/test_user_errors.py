"""Wrong input ends in one line that says what was wanted, what was found and what to do."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from lossframe import InputError
from lossframe.training.checks.user_errors import explain
from lossframe.training.cli import main
from lossframe.training.run import run

Configure = Callable[..., DictConfig]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    ("arguments", "wanted", "found"),
    [
        (["loss=tripplet"], "'triplet'", "loss=tripplet"),
        (["loss.triplet.margn=1"], "'margin'", "loss.triplet.margn"),
        (["weights.nope=1"], "'triplet'", "weights.nope"),
        (["inputs.triplet.lables=labels"], "'labels'", "inputs.triplet.lables"),
        (["--config-name=nope"], "'train'", "--config-name=nope"),
        (["--config-path=nope", "--config-name=config"], "--config-path: wanted an absolute path", "--config-dir"),
        (["ckpt=nope"], "wanted a run's folder or checkpoints/last.ckpt", "ckpt=nope"),
    ],
)
def test_command_line_that_does_not_compose_exits_with_one_line(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], wanted: str, found: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "trainer.max_epochs=1"])
    line = str(caught.value)
    assert line.startswith("error: ")
    assert "\n" not in line
    assert wanted in line
    assert found in line


def test_entry_that_nobody_provides_ends_the_process_with_one_line(command: Command) -> None:
    result = command("inputs.triplet.labels=nope", "trainer.max_epochs=1")
    *_, last = result.stderr.strip().splitlines()
    assert result.returncode == 1
    assert last.startswith("error: ")
    assert "reads 'nope'" in last
    assert "'labels'" in last


def test_full_error_raises_what_one_line_would_explain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(InputError, match="there is no such file"):
        main(["ckpt=nope"])


@pytest.mark.parametrize(
    ("arguments", "wanted", "found"),
    [
        (["loss=[]"], "at least one loss", "found none"),
        (["loss=cross_entropy", "model.num_classes=5"], "from 0 to 4", "found"),
        (["data=folder", "data.root=empty", "data.num_classes=2"], "CLASS", "empty"),
        (["loss=mse", "inputs.mse.prediction=logits", "inputs.mse.target=labels"], "equal shapes", "[80, 10]"),
        (["log_every=0"], "log_every >= 1", "found 0"),
        (["loss.triplet.margin=wide"], "wanted a number", "loss.triplet.margin=wide"),
        (["data.batch_size=many"], "wanted a whole number", "data.batch_size=many"),
        (["optimizer.lr=fast"], "wanted a number", "'fast'"),
        (["trainer.max_epochs=all"], "wanted a whole number", "trainer.max_epochs=all"),
        (["weights.triplet=heavy"], "a finite number", "weights.triplet=heavy"),
        (["seed=-1"], "from 0 to", "seed=-1"),
        (["optimizer.lr=-1"], "0 or more", "optimizer.lr=-1"),
        (["scheduler=cosine", "+scheduler.nope=1"], "scheduler: ", "'nope'"),
        (["trainer.limit_train_batches=-3"], "0.0 to 1.0", "trainer.limit_train_batches=-3"),
    ],
)
def test_value_that_does_not_fit_is_explained_in_one_line(
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
