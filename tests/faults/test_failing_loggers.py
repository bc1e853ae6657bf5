"""A logger that fails in the midst of a training costs its own curves, and one that never worked ends the training."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from lossframe import InputError
from lossframe.training.run import run

Configure = Callable[..., DictConfig]


class FailingLogger(Logger):
    """Raises an error in one method, from its call number `after` on."""

    name, version = "failing", 0

    def __init__(self, method: str, after: int = 5) -> None:
        super().__init__()
        self.after = after
        setattr(self, method, self.fail)

    def fail(self, *args: Any, **kwargs: Any) -> None:
        self.after -= 1
        if self.after < 0:
            raise ConnectionError("no route to host")

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Log nothing."""

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Log nothing."""


def failing(method: str, after: int) -> list[str]:
    name = f"logger.{method}_{after}"
    return [f"+{name}._target_={__name__}.FailingLogger", f"+{name}.method={method}", f"+{name}.after={after}"]


BRIEF = ["logger=csv", "log_every=1", "trainer.max_epochs=2", "trainer.limit_train_batches=4"]


def test_loggers_that_fail_later_are_warned_of_once(
    configure: Configure, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = [*failing("log_metrics", 5), *failing("save", 5), *failing("finalize", 0)]
    run(configure(*BRIEF, *broken))
    assert caplog.text.count("FailingLogger fails: ConnectionError: no route to host") == 2
    assert "FailingLogger: 6 calls are lost" in caplog.text, "of 8 of training, 2 of validation and 1 of the test"
    assert "FailingLogger could not finish: ConnectionError" in caplog.text
    with (tmp_path / "csv" / "metrics.csv").open() as file:
        assert sum(bool(row["train/loss/total"]) for row in csv.DictReader(file)) == 8
    assert (tmp_path / "metrics.json").exists()


def test_logger_that_fails_at_its_first_point_ends_the_training(configure: Configure) -> None:
    with pytest.raises(ConnectionError, match="no route"):
        run(configure(*BRIEF, *failing("log_metrics", 0)))


def test_logger_that_fails_to_finish_hides_no_error(configure: Configure) -> None:
    stop = [f"+callbacks.stop._target_={__name__}.Refusing"]
    with pytest.raises(InputError, match="the reason"):
        run(configure(*BRIEF, *failing("finalize", 0), *stop))


class Refusing(pl.Callback):
    """Raises an error in the second epoch."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            raise InputError("the reason")
