"""Callbacks that are chosen beside the default ones: what they do in a run, and in one that is resumed."""

import csv
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from lossframe import InputError
from lossframe.training.run import run

Configure = Callable[..., DictConfig]
FEW = ("trainer.limit_train_batches=3", "logger=csv")


def checkpoint(folder: Path, name: str) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / name, weights_only=False)


def epochs(folder: Path) -> int:
    return int(checkpoint(folder, "last.ckpt")["epoch"]) + 1


def test_early_stopping_ends_and_logs_a_training_without_improvement_and_again_if_resumed(
    configure: Configure, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    still = ("callbacks=[default,early_stopping]", "optimizer.lr=0", "callbacks.early_stopping.patience=2", *FEW)
    run(configure(*still, "trainer.max_epochs=9"))
    assert epochs(tmp_path) == 3
    assert "Stopped early in epoch 2: Monitored metric val/precision_at_1 did not improve in the last 2" in caplog.text
    last = f"ckpt={tmp_path}/checkpoints/last.ckpt"
    run(configure(*still, "trainer.max_epochs=9", last))
    assert epochs(tmp_path) == 3
    assert "in epoch 2: val/precision_at_1 had not improved in 2 validations before this resume" in caplog.text
    run(configure(*still, "trainer.max_epochs=9", "callbacks.early_stopping.patience=4", last))
    assert epochs(tmp_path) == 5


def test_early_stopping_without_patience_trains_until_the_first_validation_without_improvement(
    configure: Configure, tmp_path: Path
) -> None:
    still = ("callbacks=[default,early_stopping]", "callbacks.early_stopping.patience=0", "optimizer.lr=0", *FEW)
    run(configure(*still, "trainer.max_epochs=9"))
    assert epochs(tmp_path) == 2


def test_average_of_weights_is_saved_and_tested_and_resumed(configure: Configure, tmp_path: Path) -> None:
    averaged = ("callbacks=[default,ema]", "loss=mse", "experiment=diabetes", "callbacks.ema.decay=0.9", *FEW)
    run(configure(*averaged, "trainer.max_epochs=4", f"run_dir={tmp_path}/whole"))
    whole = checkpoint(tmp_path / "whole", "last.ckpt")
    run(configure(*averaged, "trainer.max_epochs=2", f"run_dir={tmp_path}/parts"))
    last = f"ckpt={tmp_path}/parts/checkpoints/last.ckpt"
    run(configure(*averaged, "trainer.max_epochs=4", f"run_dir={tmp_path}/parts", last))
    parts = checkpoint(tmp_path / "parts", "last.ckpt")
    for key in ("state_dict", "current_model_state"):
        torch.testing.assert_close(parts[key], whole[key], rtol=0, atol=0)
    assert any(not torch.equal(whole["state_dict"][name], each) for name, each in whole["current_model_state"].items())
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")


def test_finished_run_without_validation_tests_the_average_of_weights_again(
    configure: Configure, tmp_path: Path
) -> None:
    averaged = ("callbacks=[default,ema]", "loss=mse", "experiment=diabetes", *FEW, "trainer.limit_val_batches=0")
    run(configure(*averaged, "trainer.max_epochs=2"))
    before = metrics(tmp_path)
    run(configure(*averaged, "trainer.max_epochs=2", f"ckpt={tmp_path}/checkpoints/last.ckpt"))
    assert metrics(tmp_path) == before


def metrics(folder: Path) -> dict[str, float]:
    found = json.loads((folder / "metrics.json").read_text())
    del found["checkpoint"]
    return found


def test_curves_of_the_learning_rate_have_tags_of_their_own(configure: Configure, tmp_path: Path) -> None:
    run(configure("callbacks=[default,lr_monitor]", "trainer.max_epochs=2", "log_every=1", *FEW))
    with (tmp_path / "csv" / "metrics.csv").open() as file:
        header = next(csv.reader(file))
    assert {"train/lr", "lr-Adam", "lr-Adam-momentum", "lr-Adam-weight_decay"} <= set(header)


@pytest.mark.parametrize("sanity", [0, 1])
def test_misspelt_monitored_key_is_an_input_error_before_the_first_batch_or_after_a_validation(
    configure: Configure, tmp_path: Path, sanity: int
) -> None:
    config = configure("checkpoint_monitor.metric=val/precision_at_one", f"trainer.num_sanity_val_steps={sanity}", *FEW)
    with pytest.raises(InputError, match=r"one: MovableCheckpoint wanted .*Did you mean 'val/precision_at_1'\?"):
        run(config)
    assert not (tmp_path / "checkpoints" / "best.ckpt").exists()


def test_statistics_of_terms_can_be_monitored(configure: Configure) -> None:
    assert run(configure("checkpoint_monitor.metric=val/loss/triplet_max", "trainer.max_epochs=1", *FEW)) is not None
