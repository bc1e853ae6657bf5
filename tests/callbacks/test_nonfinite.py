"""Values and gradients that are not finite are reported with term, sample and step, on all ranks, under each policy."""

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pool import Pool
from pytorch_lightning.plugins.environments import LightningEnvironment
from torch import Tensor, nn
from torch.utils.data import DataLoader
from trainers import tiny_trainer

from lossframe import InputError, LossMonitor, NonFiniteError, Objective
from lossframe.losses import BatchAllTripletLoss, DeCovLoss, MSELoss

BATCHES, SIZE, BAD_BATCH, BAD_ROW = 10, 6, 5, 2


class Joined(LightningEnvironment):
    """A process group that runs already."""

    def __init__(self, rank: int, size: int) -> None:
        super().__init__()
        self.set_global_rank(rank)
        self.set_world_size(size)

    @property
    def creates_processes_externally(self) -> bool:
        return True

    def local_rank(self) -> int:
        return self.global_rank()


class Regression(pl.LightningModule):
    def __init__(self, objective: Objective, spoil: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 3)
        self.objective = objective
        self.spoil = spoil

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        embeddings = self.layer(batch["inputs"])
        total = self.objective({**batch, "prediction": embeddings, "embeddings": embeddings, "features": embeddings})
        if self.spoil and batch_idx == BAD_BATCH - 1:
            total = total + (self.layer.bias * 0).sqrt().sum()  # a finite value with a gradient of 0 * infinity
        return total

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


def batches(rank: int, bad: bool) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(rank)
    made = []
    for k in range(BATCHES):
        inputs, labels = torch.randn(SIZE, 4, generator=generator), torch.arange(SIZE) % 2
        if bad and rank == 1 and k == BAD_BATCH - 1:
            inputs[BAD_ROW] = torch.nan
        target = torch.randn(SIZE, 3, generator=generator)
        ids = torch.arange(SIZE) + 100 * k + 1000 * rank
        made.append({"inputs": inputs, "target": target, "labels": labels, "index": ids})
    return made


def objective(kind: str) -> Objective:
    return Objective({kind: {"mse": MSELoss(), "triplet": BatchAllTripletLoss(), "decov": DeCovLoss()}[kind]})


def train(rank: int, ranks: int, kind: str, policy: str, spoil: str, folder: str) -> tuple[list[str], bool, int, int]:
    torch.manual_seed(0)
    module = Regression(objective(kind), spoil=spoil == "gradient")
    monitor = LossMonitor(log_every=4, nonfinite=policy)
    trainer = tiny_trainer(
        Path(folder), [monitor], devices=ranks, strategy="ddp" if ranks > 1 else "auto", logger=False,
        plugins=[Joined(rank, ranks)] if ranks > 1 else None, enable_checkpointing=False, use_distributed_sampler=False,
    )  # fmt: skip
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            trainer.fit(module, DataLoader(batches(rank, bad=spoil == "value"), batch_size=None))
        except NonFiniteError as error:
            return [str(error)], False, trainer.global_step, monitor.guard.skipped
    said = [str(one.message) for one in caught if "not finite" in str(one.message)]
    finite = all(bool(parameter.isfinite().all()) for parameter in module.parameters())
    return said, finite, trainer.global_step, monitor.guard.skipped


@pytest.mark.parametrize("policy", ["raise", "skip", "warn", "off"])
@pytest.mark.parametrize("kind", ["mse", "triplet"])
def test_nan_in_one_sample_of_rank_1_is_named_on_all_ranks(pool: Pool, tmp_path: Path, kind: str, policy: str) -> None:
    bad_id = 1000 + 100 * (BAD_BATCH - 1) + BAD_ROW
    for said, finite, steps, skipped in pool.run(2, train, 2, kind, policy, "value", str(tmp_path)):
        assert bool(said) == (policy != "off")
        if said:
            pattern = rf"train: {kind} \(.*\): \d+ of \d+ .* First: '{kind}' of samples {bad_id}, at step 5 on rank 1"
            assert re.match(pattern, said[0]), said
        assert finite == (policy == "skip")
        assert skipped == (policy == "skip")
        assert steps == (8 if policy == "raise" else BATCHES)  # raised at the drain after the bad batch


def test_nonfinite_gradient_is_named_by_its_parameter(tmp_path: Path) -> None:
    said, *_ = train(0, 1, "mse", "raise", "gradient", str(tmp_path))
    assert "First: the gradient of layer.bias, at step 5 on rank 0" in said[0]
    said, finite, steps, skipped = train(0, 1, "mse", "skip", "gradient", str(tmp_path))
    assert (finite, steps, skipped) == (True, BATCHES, 1)
    assert "the gradient of layer.bias, at step 5 on rank 0. 1 batches were skipped so far." in said[0]


def test_loss_with_one_value_per_batch_names_the_samples_with_nonfinite_inputs(pool: Pool, tmp_path: Path) -> None:
    for said, *_ in pool.run(2, train, 2, "decov", "warn", "value", str(tmp_path)):
        assert f"'decov' of samples {1000 + 100 * (BAD_BATCH - 1) + BAD_ROW}, at step 5 on rank 1" in said[0]


def test_skipped_batch_leaves_the_weights_of_a_run_without_it(tmp_path: Path) -> None:
    def fit(data: list[dict[str, Tensor]]) -> Any:
        module = Regression(objective("mse"), spoil=False)
        trainer = tiny_trainer(tmp_path, [LossMonitor(nonfinite="skip")], logger=False, enable_checkpointing=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer.fit(module, DataLoader(data, batch_size=None))
        return module.layer.weight.detach()

    data = batches(1, bad=True)
    assert fit(data).equal(fit(data[: BAD_BATCH - 1] + data[BAD_BATCH:]))


def test_unknown_policy_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"nonfinite='rais' is unknown; .*Did you mean 'raise'"):
        LossMonitor(nonfinite="rais")
