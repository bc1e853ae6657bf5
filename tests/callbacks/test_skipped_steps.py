"""Under `nonfinite=skip` a skipped step leaves no trace in any statistic; its samples count as seen."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from curves import read
from pool import Pool
from pytorch_lightning.plugins.precision import MixedPrecision
from test_nonfinite import Joined
from torch import Tensor, nn
from torch.utils.data import DataLoader
from trainers import tiny_trainer

from lossframe import LossMonitor, Objective
from lossframe.losses import BatchAllTripletLoss, MSELoss

BATCHES, SIZE = 13, 4
SHOWN: Any = {"log_std": True, "log_min": True, "log_max": True, "log_quantiles": True}


class Module(pl.LightningModule):
    """Records the values of each batch, and the gradient norm of each step, by itself."""

    def __init__(self, spoil: str, relational: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 2)
        loss = BatchAllTripletLoss(**SHOWN) if relational else MSELoss(**SHOWN)
        self.objective = Objective({"term": loss}, weights={"term": 0.5})
        self.spoil = spoil
        self.values: list[np.ndarray] = []
        self.norms: list[float] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        out = self.layer(batch)
        entries = {"prediction": out, "target": torch.zeros_like(out), "embeddings": out}
        total: Tensor = self.objective({**entries, "labels": torch.arange(len(out)) % 2})
        self.values.append(out.detach().square().double().numpy().reshape(-1))
        if self.spoil == "gradient" and bool((batch > 5).any()):
            total = total + (self.layer.bias * 0).sqrt().sum()
        return total

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.objective({"prediction": batch, "target": 0 * batch, "embeddings": batch, "labels": batch[:, 0].long()})

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        self.norms.append(torch.cat([g.flatten() for g in gradients]).norm().item() if gradients else 0.0)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.001)


def data(spoil: str, bad: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(SIZE, 3, generator=generator) for _ in range(BATCHES)]
    for k in bad:
        made[k][1] = 10.0 if spoil == "gradient" else torch.nan
    return made


def fit(folder: Path, batches: list[Tensor], spoil: str, relational: bool = False, **options: Any) -> Module:
    module, log_every = Module(spoil, relational), options.pop("log_every")
    monitor = LossMonitor(log_every=log_every, nonfinite="skip")
    trainer = tiny_trainer(folder, [monitor], enable_checkpointing=False, num_sanity_val_steps=0, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, DataLoader(batches, batch_size=None), DataLoader(data("", ()), batch_size=None))
    assert monitor.guard.skipped == len({k // options.get("accumulate_grad_batches", 1) for k in BAD})
    return module


BAD = (5, 6, 9)


def assert_statistics(curves: dict[str, list[tuple[int, float]]], step: int, values: Any) -> None:
    wanted = {"": values.mean(), "_std": values.std(), "_min": values.min(), "_max": values.max()}
    found = {suffix: dict(curves[f"loss/term{suffix}"])[step] for suffix in wanted}
    assert found == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("spoil", ["value", "gradient"])
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("log_every", [1, 4])
def test_windows_hold_the_values_of_all_steps_that_were_taken(
    tmp_path: Path, spoil: str, accumulate: int, log_every: int
) -> None:
    module = fit(
        tmp_path, data(spoil, BAD), spoil, log_every=log_every, accumulate_grad_batches=accumulate, val_check_interval=7
    )
    groups = [list(range(BATCHES))[k : k + accumulate] for k in range(0, BATCHES, accumulate)]
    taken = [group for group in groups if not set(group) & set(BAD)]
    ends = sorted({*range(log_every, BATCHES + 1, log_every), BATCHES})
    curves, begin, found = read(tmp_path / "train"), 0, 0
    for end in ends:
        due = [k for group in taken if begin < group[-1] + 1 <= end for k in group]
        begin = end
        if not due:
            continue
        assert_statistics(curves, SIZE * end, np.concatenate([module.values[k] for k in due]))
        assert np.isfinite(dict(curves["loss/term_p50"])[SIZE * end])
        norms = [module.norms[k // accumulate] for k in due[accumulate - 1 :: accumulate] or due]
        assert accumulate > 1 or dict(curves["gradient_norm"])[SIZE * end] == pytest.approx(np.mean(norms), rel=1e-5)
        found += 1
    assert len(curves["loss/term"]) == found
    assert np.isfinite([value for points in curves.values() for _, value in points]).all()
    assert len(read(tmp_path / "val")["loss/term"]) == 1


def on_rank(rank: int, relational: bool, bad: tuple[int, ...], folder: str) -> int:
    batches = data("value", BAD if rank else (), seed=rank)
    if not bad:  # without the batches, whose place nothing takes
        batches = [batch for k, batch in enumerate(batches) if k not in BAD]
    module, monitor = Module("value", relational), LossMonitor(log_every=50, nonfinite="skip")
    trainer = tiny_trainer(
        Path(folder), [monitor], devices=2, strategy="ddp", plugins=[Joined(rank, 2)], enable_checkpointing=False,
        use_distributed_sampler=False, limit_val_batches=0,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, DataLoader(batches, batch_size=None))
    return monitor.samples_seen


@pytest.mark.parametrize("relational", [False, True])
def test_batch_skipped_on_two_ranks_leaves_the_statistics_of_a_run_without_it(
    pool: Pool, tmp_path: Path, relational: bool
) -> None:
    assert pool.run(2, on_rank, relational, BAD, str(tmp_path / "skipped")) == [2 * SIZE * BATCHES] * 2
    assert pool.run(2, on_rank, relational, (), str(tmp_path / "without")) == [2 * SIZE * (BATCHES - len(BAD))] * 2
    skipped, without = read(tmp_path / "skipped" / "train"), read(tmp_path / "without" / "train")
    assert skipped.keys() == without.keys()
    for tag in skipped.keys() - {"samples_per_second"}:
        assert [value for _, value in skipped[tag]] == pytest.approx([value for _, value in without[tag]]), tag


def test_nonfinite_value_under_a_gradient_scaler_is_left_out(tmp_path: Path) -> None:
    scaled = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    module = fit(tmp_path, data("value", BAD), "value", log_every=50, plugins=[scaled], limit_val_batches=0)
    values = np.concatenate([v for k, v in enumerate(module.values) if k not in BAD])
    ((_, mean),) = read(tmp_path / "train")["loss/term"]
    assert mean == pytest.approx(values.mean(), rel=1e-2)  # of half precision


class Manual(Module):
    """Steps by itself, every `every` batches, or never."""

    every = 0

    def __init__(self) -> None:
        super().__init__("value", False)
        self.automatic_optimization = False

    def training_step(self, batch: Tensor, batch_idx: int) -> None:  # type: ignore[override]
        optimizer: Any = self.optimizers()
        self.manual_backward(super().training_step(batch, batch_idx))
        if self.every and (batch_idx + 1) % self.every == 0:
            optimizer.step()
            optimizer.zero_grad()


@pytest.mark.parametrize("every", [0, 1, 4])
def test_values_that_wait_for_no_step_count_at_the_end_of_the_epoch(tmp_path: Path, every: int) -> None:
    module = Manual()
    module.every = every
    bad = (5,) if every else ()
    trainer = tiny_trainer(tmp_path, [LossMonitor(nonfinite="skip")], enable_checkpointing=False, limit_val_batches=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, DataLoader(data("value", bad), batch_size=None))
    dropped = {k for k in range(BATCHES) if every and k // every == 5 // every}
    values = np.concatenate([v for k, v in enumerate(module.values) if k not in dropped])
    ((_, mean),) = read(tmp_path / "train")["loss/term"]
    assert mean == pytest.approx(values.mean(), rel=1e-6)
