"""Monitors that outlive a trainer, trainings that end early, criteria that change, and what other callbacks see."""

import copy
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from curves import read
from modules import Evaluated, Numbers, numbers
from pytorch_lightning.callbacks import OnExceptionCheckpoint, StochasticWeightAveraging
from trainers import tiny_trainer

from lossframe import LossMonitor
from lossframe.losses import L1Loss

VALUES = [1.0, 2.0, 3.0, 4.0, 5.0, 60.0]


def points(folder: Path, stage: str = "train", tag: str = "loss/l1") -> list[tuple[int, float]]:
    return [(step, pytest.approx(value, rel=1e-6)) for step, value in read(folder / stage)[tag]]


def trainer_of(folder: Path, monitor: LossMonitor, *callbacks: pl.Callback, **options: Any) -> Any:
    return tiny_trainer(folder, [*callbacks, monitor], enable_checkpointing=False, **options)


class Saves(pl.Callback):
    """Saves a checkpoint after a step."""

    def __init__(self, path: Path, step: int) -> None:
        self.path, self.step = path, step

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def test_monitor_in_a_second_trainer_starts_anew(tmp_path: Path) -> None:
    monitor = LossMonitor(log_every=4)
    for fold in ("first", "second"):
        trainer_of(tmp_path / fold, monitor).fit(Numbers(), numbers(VALUES, 2))
        assert points(tmp_path / fold) == [(6, 12.5)]
    assert monitor.samples_seen == 6


def test_monitor_in_a_second_trainer_holds_nothing_of_a_failed_training(tmp_path: Path) -> None:
    class Fails(Numbers):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 2:
                raise KeyError("column")
            return super().training_step(batch, batch_idx)

    monitor = LossMonitor()
    with pytest.raises(KeyError, match="column"):
        trainer_of(tmp_path / "failed", monitor).fit(Fails(), numbers(VALUES, 2))
    assert points(tmp_path / "failed") == [(4, 2.5)]  # the open window is written
    trainer_of(tmp_path / "next", monitor).fit(Numbers(), numbers(VALUES, 2))
    assert points(tmp_path / "next") == [(6, 12.5)]


def test_same_trainer_goes_on_counting_in_a_second_training(tmp_path: Path) -> None:
    monitor = LossMonitor()
    trainer = trainer_of(tmp_path, monitor)
    module = Numbers()
    trainer.fit(module, numbers(VALUES, 2))
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module, numbers(VALUES, 2))
    assert sorted(read(tmp_path / "train")["loss/l1"]) == [(6, 12.5), (12, 12.5)]  # files of one second have no order


def test_error_in_a_validation_leaves_no_sample_of_training_unwritten(tmp_path: Path) -> None:
    class Fails(Evaluated):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            raise KeyError("column")

    with pytest.raises(KeyError, match="column"):
        trainer_of(tmp_path, LossMonitor(), num_sanity_val_steps=0).fit(Fails(), numbers(VALUES, 2), numbers(VALUES, 2))
    assert points(tmp_path) == [(6, 12.5)]


def test_ctrl_c_writes_the_open_window(tmp_path: Path) -> None:
    class Interrupted(Numbers):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 2:
                raise KeyboardInterrupt
            return super().training_step(batch, batch_idx)

    with pytest.raises(SystemExit):
        trainer_of(tmp_path, LossMonitor()).fit(Interrupted(), numbers(VALUES, 2))
    assert points(tmp_path) == [(4, 2.5)]


@pytest.mark.filterwarnings("ignore:.*called without a model")
@pytest.mark.filterwarnings("ignore:.*there is no last checkpoint available")
@pytest.mark.parametrize("first", [True, False], ids=["before the monitor", "after the monitor"])
def test_error_of_the_user_is_not_hidden_by_a_pending_nan(
    first: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Fails(Numbers):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 1:
                raise KeyError("column")
            return super().training_step(batch, batch_idx)

    saves = OnExceptionCheckpoint(str(tmp_path / "saved"))
    callbacks = [saves, LossMonitor()] if first else [LossMonitor(), saves]
    trainer = tiny_trainer(tmp_path, callbacks)
    with pytest.raises(KeyError, match="column"):
        trainer.fit(Fails(), numbers([1.0, torch.nan, 3.0], 2))
    assert re.search("l1 .*not finite", caplog.text)
    assert list((tmp_path / "saved").iterdir())


def test_error_while_writing_the_last_window_hides_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Fails(Numbers):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 1:
                raise KeyError("column")
            return super().training_step(batch, batch_idx)

    class FullDisk(pl.loggers.CSVLogger):
        def log_metrics(self, *_: Any, **__: Any) -> None:
            raise OSError("no space left on device")

    with pytest.raises(KeyError, match="column"):
        trainer_of(tmp_path, LossMonitor(), logger=FullDisk(tmp_path)).fit(Fails(), numbers(VALUES, 2))
    assert "could not write the last window: no space left on device" in caplog.text


def test_checkpoint_of_an_earlier_callback_counts_its_batch(tmp_path: Path) -> None:
    saves = Saves(tmp_path / "two.ckpt", 2)
    trainer_of(tmp_path / "first", LossMonitor(), saves, max_epochs=2).fit(Numbers(), numbers(VALUES, 2))
    saved = torch.load(tmp_path / "two.ckpt", weights_only=True)["callbacks"]["LossMonitor"]["collector"]
    assert saved["samples_seen"] == saved["window"]["samples"] == 4


class Bare(Numbers):
    """A class of its own, because a module without a monitor is told of it once."""


def test_training_resumed_without_a_monitor_estimates_its_samples(tmp_path: Path) -> None:
    bare = tiny_trainer(tmp_path / "bare", enable_checkpointing=False)
    with pytest.warns(UserWarning, match="has no LossMonitor"):
        bare.fit(Bare(), numbers(VALUES, 2))
    bare.save_checkpoint(tmp_path / "bare.ckpt")
    trainer = trainer_of(tmp_path, LossMonitor(), max_epochs=2)
    with pytest.warns(UserWarning, match="how many samples its last 3 batches had"):
        trainer.fit(Numbers(), numbers(VALUES, 2), ckpt_path=tmp_path / "bare.ckpt")
    assert points(tmp_path) == [(12, 12.5)]


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")
def test_resumed_with_other_losses_drops_the_statistics_of_those_that_are_gone(tmp_path: Path) -> None:
    class Two(Numbers):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step(batch, batch_idx) + self.other(self.values(batch), torch.zeros(len(batch[0])))

    two = Two(number=L1Loss(), other=L1Loss())
    trainer_of(tmp_path / "first", LossMonitor(), Saves(tmp_path / "one.ckpt", 1)).fit(two, numbers(VALUES, 2))
    trainer = trainer_of(tmp_path, LossMonitor())
    saved = torch.load(tmp_path / "one.ckpt", weights_only=True)
    saved["state_dict"] = {key: value for key, value in saved["state_dict"].items() if "other" not in key}
    torch.save(saved, tmp_path / "one.ckpt")
    with pytest.warns(UserWarning, match="'other'.* dropped: the module has no such loss"):
        trainer.fit(Numbers(), numbers(VALUES, 2), ckpt_path=tmp_path / "one.ckpt")
    assert read(tmp_path / "train").keys() >= {"loss/l1"}


def test_epoch_of_swa_that_updates_batch_norm_counts_no_sample(tmp_path: Path) -> None:
    class Normalised(Numbers):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(1)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step(batch, batch_idx) + 0 * self.norm(batch[0][:, None]).sum()

    monitor = LossMonitor(log_every=2)
    swa = StochasticWeightAveraging(swa_lrs=0.1, swa_epoch_start=1)
    trainer_of(tmp_path, monitor, swa, max_epochs=3).fit(Normalised(), numbers(VALUES, 2))
    assert monitor.samples_seen == 18
    assert [step for step, _ in points(tmp_path)] == [4, 6, 8, 12, 16, 18]


@pytest.mark.filterwarnings("ignore:train_dataloader yielded None")
def test_batch_that_is_none_counts_no_sample(tmp_path: Path) -> None:
    class Drops(Evaluated):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            if batch is not None:
                super().validation_step(batch, batch_idx)

    loader = torch.utils.data.DataLoader([[torch.tensor([2.0])], None, [torch.tensor([4.0])]], batch_size=None)  # type: ignore[arg-type]
    trainer_of(tmp_path, LossMonitor()).fit(Drops(), loader, loader)
    assert points(tmp_path) == [(2, 3.0)]
    assert points(tmp_path, "val") == [(2, 3.0)]


def test_copies_of_a_module_in_training_have_its_plain_hooks(tmp_path: Path) -> None:
    copies: list[Numbers] = []

    class Copies(pl.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            pl_module.trainer, attached = None, pl_module.trainer
            copies.extend([copy.deepcopy(pl_module), pickle.loads(pickle.dumps(pl_module))])
            pl_module.trainer = attached

    module = Numbers()
    trainer_of(tmp_path, LossMonitor(), Copies(), limit_train_batches=1).fit(module, numbers(VALUES, 2))
    hooks = [each.on_train_epoch_end for each in (*copies, module)]
    assert [hook.__self__ for hook in hooks] == [*copies, module]
    assert all(hook.__func__ is pl.LightningModule.on_train_epoch_end for hook in hooks)
