"""A user's own `DataLoader` gives each rank its share of the batches, and goes on in the middle of an epoch."""

import random
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pool import Pool
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, RandomSampler, TensorDataset
from trainers import tiny_trainer

from lossframe.data import OrderedBatchSampler, WorkerLoader, shard_loaders, sharded
from lossframe.errors import InputError
from lossframe.losses import CrossEntropyLoss

SIZE, BATCH = 53, 10


class Noisy(Dataset[dict[str, Tensor]]):
    """Samples that are changed at random by all three generators whenever they are read."""

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> dict[str, Any]:
        noise = torch.rand(3) + float(np.random.rand()) + random.random()
        return {"inputs": noise + index, "labels": torch.tensor(index % 4), "index": torch.tensor(index)}


class Own(pl.LightningDataModule):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(Noisy(), BATCH, shuffle=True, **self.options)

    def val_dataloader(self) -> dict[str, DataLoader[dict[str, Tensor]]]:
        return {"a": DataLoader(Noisy(), 7), "b": DataLoader(Noisy(), 7, drop_last=True)}


def of_epoch(loader: WorkerLoader, epoch: int) -> list[dict[str, Tensor]]:
    loader.batch_sampler.sampler.set_epoch(epoch)
    return list(loader)


def test_ranks_and_workers_read_the_same_global_batches() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    loader = sharded(DataLoader(Noisy(), BATCH, shuffle=True), 1)
    whole = [of_epoch(loader, epoch) for epoch in (0, 1)]
    for world_size, options in ((1, {"num_workers": 2, "persistent_workers": True}), (4, {})):
        shares = [
            sharded(DataLoader(Noisy(), BATCH, shuffle=True, **options), 1, rank, world_size)
            for rank in range(world_size)
        ]
        for epoch in (0, 1):
            for batch, *parts in zip(whole[epoch], *(of_epoch(each, epoch) for each in shares), strict=True):
                for name, entry in batch.items():
                    for rank, part in enumerate(parts):
                        assert torch.equal(part[name], entry[rank::world_size])
    assert [len(batch["index"]) for batch in whole[0]] == [10, 10, 10, 10, 10, 3]  # the fourth rank had an empty one
    assert sorted(torch.cat([batch["index"] for batch in whole[0]]).tolist()) == list(range(SIZE))
    assert not torch.equal(whole[0][0]["index"], whole[1][0]["index"])
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_resumed_loader_goes_on_after_what_was_given_out_not_read_ahead() -> None:
    def loader() -> WorkerLoader:
        return sharded(DataLoader(Noisy(), BATCH, shuffle=True, num_workers=1, prefetch_factor=2), 1)

    first, second = loader(), loader()
    batches = iter(first)
    next(batches), next(batches)
    state = first.state_dict()
    assert (state["epoch"], state["batches"]) == (0, 2)
    rest = list(batches)
    second.load_state_dict(state)
    again, fresh = list(second), list(second)
    assert (len(again), len(fresh)) == (4, 6)
    for batch, other in zip(rest, again, strict=True):
        assert torch.equal(batch["inputs"], other["inputs"])


def train(rank: int, world_size: int) -> list[Tensor]:
    torch.manual_seed(0)
    model: nn.Module = nn.Linear(3, 4).double()
    if world_size > 1:
        model = DistributedDataParallel(model)
    optimizer, criterion = torch.optim.SGD(model.parameters(), lr=0.01), CrossEntropyLoss()
    loader = sharded(DataLoader(Noisy(), BATCH, shuffle=True), 1, rank, world_size)
    for batch in of_epoch(loader, 0) + of_epoch(loader, 1):
        optimizer.zero_grad()
        criterion(model(batch["inputs"].double()), batch["labels"]).backward()
        optimizer.step()
    return [parameter.detach() for parameter in model.parameters()]


def test_weights_after_two_epochs_on_two_ranks_are_those_of_one(pool: Pool) -> None:
    one = train(0, 1)
    for weights in pool.run(2, train, 2):
        torch.testing.assert_close(weights, one, rtol=1e-10, atol=1e-12)


class Reader(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.read: dict[str, list[list[int]]] = {"train": [], "val": []}

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.read["train"].append(batch["index"].tolist())
        return self.scale * batch["inputs"].mean()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int) -> None:
        self.read["val"].append(batch["index"].tolist())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        assert self.trainer.estimated_stepping_batches, "which makes the loaders before Lightning loads their positions"
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_trainer_reads_the_loaders_of_a_data_module_in_another_order_each_epoch(tmp_path: Path) -> None:
    data, module = (
        Own(collate_fn=lambda samples: {name: torch.stack([s[name] for s in samples]) for name in samples[0]}),
        Reader(),
    )
    shard_loaders(data, seed=3)
    tiny_trainer(tmp_path, max_epochs=2, logger=False, num_sanity_val_steps=0, enable_checkpointing=False).fit(
        module, data
    )
    first, second = module.read["train"][:6], module.read["train"][6:]
    assert sorted(chain.from_iterable(first)) == sorted(chain.from_iterable(second)) == list(range(SIZE))
    assert first != second
    assert first == [batch["index"].tolist() for batch in of_epoch(sharded(Own().train_dataloader(), 3), 0)]
    assert len(module.read["val"]) == 2 * (8 + 7), "drop_last holds for the second of two loaders"


def fit(folder: Path, checkpoint: Path | None = None, save_at: int = 0) -> Reader:
    def save(trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == save_at:
            trainer.save_checkpoint(folder / "mid.ckpt")

    data, module = Own(num_workers=1), Reader()
    shard_loaders(data, seed=3)
    quiet = {"logger": False, "num_sanity_val_steps": 0, "limit_val_batches": 0, "enable_checkpointing": False}
    callbacks = [pl.callbacks.LambdaCallback(on_train_batch_end=save)]
    tiny_trainer(folder, callbacks, max_epochs=2, **quiet).fit(module, data, ckpt_path=checkpoint)
    return module


def test_trainer_goes_on_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    whole = fit(tmp_path, save_at=8)
    rest = fit(tmp_path, tmp_path / "mid.ckpt")
    assert len(rest.read["train"]) == 4
    assert rest.read["train"] == whole.read["train"][8:]
    assert torch.equal(rest.scale, whole.scale)


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        yield from range(8)


def test_loaders_that_cannot_be_shared_out_are_refused_on_several_ranks_only() -> None:
    data = TensorDataset(torch.arange(8))
    for loader, message in (
        (DataLoader(Stream(), 2), "the iterable data set Stream on several ranks: .* use a map-style data set"),
        (DataLoader(data, 2, sampler=RandomSampler(data, num_samples=4)), "the sampler RandomSampler .*GlobalBatchS"),
        (DataLoader(data, batch_sampler=OrderedBatchSampler(8, 2)), "the sampler OrderedBatchSampler .*WorkerLoader"),
    ):
        assert sharded(loader) is loader
        with pytest.raises(InputError, match=message):
            sharded([loader], world_size=2)
    own = DataLoader(data, 2, sampler=DistributedSampler(data, num_replicas=2, rank=0))
    assert sharded(own, world_size=2) is own
    with pytest.warns(UserWarning, match="a loader of the class range on several ranks: wanted samples of its own"):
        sharded(range(3), world_size=2)
