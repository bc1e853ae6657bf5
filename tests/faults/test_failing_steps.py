"""Memory that runs out, data that cannot be read and workers that die end a run with the reason, in seconds."""

import csv
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from torch.utils.data import DataLoader, Dataset

from lossframe import InputError, Learner
from lossframe.data import sharded
from lossframe.data.workers import naming_samples
from lossframe.training.run import run

Configure = Callable[..., DictConfig]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_step_without_memory_ends_the_run_after_writing_the_open_window(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    original = Learner.training_step

    def step(learner: Learner, batch: Any, batch_idx: int) -> Any:
        if learner.current_epoch == 1 and batch_idx == 3:
            raise error("out of memory: tried to allocate 2.00 GiB")
        return original(learner, batch, batch_idx)

    monkeypatch.setattr(Learner, "training_step", step)
    with pytest.raises(error, match="tried to allocate"):
        run(configure("logger=csv", "log_every=5", "trainer.max_epochs=2", "trainer.limit_train_batches=5"))
    with (tmp_path / "csv" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss/total"]]
    assert [float(row["samples_seen"]) / 80 for row in rows] == [5, 8]
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 0


class Faulty(Dataset[dict[str, torch.Tensor]]):
    """Holds 12 samples; that at one position raises an error, or kills its process."""

    def __init__(self, position: int, kills: bool) -> None:
        self.position, self.kills = position, kills

    def __len__(self) -> int:
        return 12

    def __getitem__(self, position: int) -> dict[str, torch.Tensor]:
        if position == self.position and self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        if position == self.position:
            raise KeyError("no such picture")
        return {"x": torch.zeros(2)}


@pytest.mark.parametrize("workers", [0, 1])
def test_error_of_a_data_set_names_the_sample(workers: int) -> None:
    loader = sharded(DataLoader(Faulty(7, kills=False), 4, num_workers=workers))
    with pytest.raises(KeyError, match="no such picture") as caught:
        list(loader)
    said = [*getattr(caught.value, "__notes__", []), str(caught.value)]
    assert "This was sample 7 of the Faulty, in epoch 0." in "\n".join(said)


class Keeping(pl.Callback):
    """Has a state that is not plain."""

    def state_dict(self) -> dict[str, Any]:
        return {"seen": [1, {"where": Path("a")}]}


def test_state_that_could_not_be_loaded_ends_the_run_at_its_first_checkpoint(configure: Configure) -> None:
    keeping = f"+callbacks.keeping._target_={__name__}.Keeping"
    found = r"found a pathlib\.PosixPath in callbacks\.Keeping\.seen\.1\.where; let the `state_dict` there"
    with pytest.raises(InputError, match=found):
        run(configure("logger=[]", "trainer.limit_train_batches=2", "trainer.limit_val_batches=0", keeping))


class Idle(pl.LightningModule):
    """Learns nothing."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Skip the step."""

    def configure_optimizers(self) -> None:
        """Make no optimiser."""


@pytest.mark.filterwarnings("ignore:.*configure_optimizers:UserWarning", "ignore:.*training_step:UserWarning")
def test_worker_that_is_killed_ends_the_training_in_seconds_and_names_its_sample(tmp_path: Path) -> None:
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, default_root_dir=tmp_path, log_every_n_steps=1,
    )  # fmt: skip
    started = time.monotonic()
    said = r"a data worker (is killed by signal|exited unexpectedly).* while it read sample 7 of the Faulty in epoch 0"
    with pytest.raises(InputError, match=said), naming_samples():
        trainer.fit(Idle(), sharded(DataLoader(Faulty(7, kills=True), 4, num_workers=2)))
    assert time.monotonic() - started < 30
