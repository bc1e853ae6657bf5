"""Runs without epochs, without validation or without a test have right values, or say in one line what is missing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.errors import InstantiationException
from omegaconf import DictConfig
from trainers import tiny_trainer

from lossframe import InputError, LossMonitor
from lossframe.training.checks import preflight
from lossframe.training.checks.user_errors import explain
from lossframe.training.configuration import composition
from lossframe.training.run import learner_of, run

Configure = Callable[..., DictConfig]
NO_TRAINING = ["trainer.max_epochs=0", "trainer.max_steps=0", "trainer.limit_train_batches=0"]


@pytest.mark.parametrize("nothing", NO_TRAINING)
def test_run_without_a_step_tests_the_initial_weights(configure: Configure, tmp_path: Path, nothing: str) -> None:
    config = configure("logger=csv", "trainer.limit_test_batches=1", nothing)
    assert run(config) is None
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["checkpoint"] is None
    torch.manual_seed(config.seed)
    learner, _ = learner_of(composition.prepared(config))
    data = preflight.data_of(config)
    trainer = tiny_trainer(tmp_path / "alone", [LossMonitor()], limit_test_batches=1)
    (wanted,) = trainer.test(learner, data, verbose=False)
    assert found["test/loss/triplet"] == pytest.approx(wanted["test/loss/triplet"])


def test_run_without_validation_tests_the_last_weights(
    configure: Configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    brief = ["trainer.max_epochs=1", "trainer.limit_train_batches=2", "logger=csv"]
    assert run(configure(*brief, "trainer.limit_val_batches=0")) is None
    assert "none; the last weights were tested" in capsys.readouterr().out
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 2
    assert not (tmp_path / "checkpoints" / "best.ckpt").exists()


def test_run_without_a_test_writes_the_checkpoint_alone(configure: Configure, tmp_path: Path) -> None:
    brief = ["trainer.max_epochs=1", "trainer.limit_train_batches=2", "logger=csv", "trainer.limit_test_batches=0"]
    score = run(configure(*brief))
    assert score is not None
    best = str(tmp_path / "checkpoints" / "best.ckpt")
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written == {"val/precision_at_1": score, "checkpoint": best}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trainer.limit_val_batches=0", "callbacks=[default,early_stopping]"], "but there is no validation: leave it"),
        (["data.test_fraction=0"], "val_fraction and test_fraction must be above 0"),
    ],
)
def test_missing_split_is_an_error_of_one_line(configure: Configure, arguments: list[Any], message: str) -> None:
    with pytest.raises((InputError, InstantiationException), match=message) as caught:
        run(configure("trainer.max_epochs=1", "logger=csv", *arguments))
    assert "\n" not in (explain(caught.value) or "\n")
