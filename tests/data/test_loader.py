"""A resumed training reads the batches that an uninterrupted one reads."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from trainers import tiny_trainer

from lossframe.data import BatchLoader, Digits, ShardedBatchSampler, ShuffledBatchSampler, shuffled
from lossframe.errors import InputError


class Recorder(pl.LightningModule):
    """Remembers the ids that it was trained and validated on."""

    def __init__(self, reads_steps: bool) -> None:
        super().__init__()
        self.reads_steps = reads_steps
        self.scale = nn.Parameter(torch.ones(()))
        self.trained: list[list[int]] = []
        self.validated: list[list[int]] = []

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.trained.append(batch["index"].tolist())
        return self.scale * batch["image"].mean()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.validated.append(batch["index"].tolist())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        if self.reads_steps:  # as a scheduler does: the loaders are made before Lightning loads their positions
            assert self.trainer.estimated_stepping_batches
        return torch.optim.SGD(self.parameters(), lr=0.1)


class KeepEverything(pl.Callback):
    """Saves a checkpoint wherever Lightning's own callback may."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: pl.Trainer, *args: object) -> None:
        self.save(trainer, "batch")

    def on_validation_end(self, trainer: pl.Trainer, *args: object) -> None:
        self.save(trainer, "validation")

    def on_train_epoch_end(self, trainer: pl.Trainer, *args: object) -> None:
        self.save(trainer, "epoch")

    def save(self, trainer: pl.Trainer, when: str) -> None:
        trainer.save_checkpoint(self.path / f"{trainer.global_step}-{when}.ckpt")


def fit(path: Path, resume: Path | None = None, **options: int) -> Recorder:
    recorder = Recorder("val_check_interval" in options)
    trainer = tiny_trainer(
        path, [KeepEverything(path)], max_epochs=3, logger=False, enable_checkpointing=False, num_sanity_val_steps=0,
        use_distributed_sampler=False, **options,
    )  # fmt: skip
    trainer.fit(recorder, datamodule=Digits(batch_size=240, sampler=shuffled), ckpt_path=resume)
    return recorder


@pytest.mark.parametrize("options", [{}, {"limit_train_batches": 3}, {"val_check_interval": 2}], ids=str)
def test_run_resumed_at_any_checkpoint_reads_the_batches_of_the_whole_run(
    tmp_path: Path, options: dict[str, int]
) -> None:
    whole = fit(tmp_path, **options)
    steps = options.get("limit_train_batches", 5)
    assert len(whole.trained) == 3 * steps
    epochs = [whole.trained[start : start + steps] for start in range(0, 3 * steps, steps)]
    assert epochs[0] != epochs[1] != epochs[2]
    for checkpoint in sorted(tmp_path.iterdir()):
        step = torch.load(checkpoint, weights_only=False)["global_step"]
        resumed = fit(tmp_path / "again", checkpoint, **options)
        assert resumed.trained == whole.trained[step:], checkpoint.name
        assert all(ids in whole.validated for ids in resumed.validated)


def test_restored_loader_goes_on_in_the_middle_of_its_epoch() -> None:
    def loader() -> BatchLoader:
        return BatchLoader({}, torch.arange(50), ShardedBatchSampler(ShuffledBatchSampler(50, 10)))

    first = loader()
    batches = iter(first)
    next(batches)
    state = first.state_dict()
    second = loader()
    second.load_state_dict(state)
    assert second.state_dict() == state
    rest, again = list(second), list(second)
    assert [batch["index"].tolist() for batch in batches] == [batch["index"].tolist() for batch in rest]
    assert (len(rest), len(again)) == (4, 5)


@pytest.mark.parametrize("done", [2, 5])
def test_epoch_of_other_batches_goes_on_only_from_an_epochs_end(done: int) -> None:
    def loader(batch_size: int) -> BatchLoader:
        return BatchLoader({}, torch.arange(50), ShardedBatchSampler(ShuffledBatchSampler(50, batch_size)))

    first, other = loader(10), loader(25)
    for _, _ in zip(range(done), first, strict=False):
        pass
    other.load_state_dict(first.state_dict())
    other.batch_sampler.sampler.set_epoch(int(done == 5))
    if done == 5:
        assert len(list(other)) == 2
        return
    with pytest.raises(InputError, match=r"of 5 batches by Shuffled.*, batch_size 10\).* found 2 .*, batch_size 25\)"):
        list(other)


def test_sampler_that_counts_what_it_gives_out_goes_on_in_the_middle_of_an_epoch() -> None:
    class Counting(ShuffledBatchSampler):
        given = 0

        def __iter__(self) -> Iterator[list[int]]:
            for batch in super().__iter__():
                self.given += 1
                yield batch

    first, second = (BatchLoader({}, torch.arange(50), ShardedBatchSampler(Counting(50, 10))) for _ in range(2))
    next(iter(first))
    second.load_state_dict(first.state_dict())
    assert len(list(second)) == 4
