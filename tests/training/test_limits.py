"""A run that a limit has ended, and that goes on with a higher one, equals a run that had the higher one at once."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from lossframe.training.run import run
from scripts.crashes import records

Configure = Callable[..., DictConfig]
OPTIONS = ("logger=csv", "log_every=1", "trainer.limit_train_batches=4", "trainer.precision=64-true")
STOP = ("callbacks=[default,early_stopping]", "callbacks.early_stopping.min_delta=9", "trainer.val_check_interval=1")


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (["trainer.max_steps=4", "trainer.check_val_every_n_epoch=2"], ["trainer.max_steps=6"]),
        (["trainer.max_steps=5"], ["trainer.max_steps=-1"]),
        ([*STOP, "callbacks.early_stopping.patience=2"], ["callbacks.early_stopping.patience=4"]),
        (["callbacks=[default,early_stopping]", "trainer.max_steps=5"], ["trainer.max_steps=6"]),
    ],
    ids=["steps of an epoch", "steps and part of an epoch", "patience", "steps and early stopping"],
)
def test_run_beyond_its_limit_equals_a_run_without_it(
    configure: Configure, tmp_path: Path, first: list[str], then: list[str]
) -> None:
    options = (*OPTIONS, "trainer.max_epochs=2", "trainer.limit_val_batches=2", "trainer.limit_test_batches=1")
    run(configure(*options, *first, f"run_dir={tmp_path}/parts"))
    last = f"ckpt={tmp_path}/parts/checkpoints/last.ckpt"
    run(configure(*options, *first, f"run_dir={tmp_path}/parts", last))
    run(configure(*options, *first, *then, f"run_dir={tmp_path}/parts", last))
    run(configure(*options, *first, *then, f"run_dir={tmp_path}/whole"))
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    found, wanted = records.weights(parts), records.weights(whole)
    assert found.keys() == wanted.keys()
    assert all(found[name].equal(each) for name, each in wanted.items())
    assert set(records.rows(whole, 13)) <= set(records.rows(parts, 13))
