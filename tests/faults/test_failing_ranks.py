"""A rank that dies, fails alone or has other numbers of batches ends all ranks in seconds; checkpoints stay whole."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from forked import ROOT, Forked, on_ranks
from monitor_runs import Environment
from pool import Pool
from pytorch_lightning.strategies import DDPStrategy
from torch import nn
from torch.utils.data import DataLoader

from lossframe import InputError, distributed
from lossframe.callbacks.rank_consistency import RankConsistency
from lossframe.callbacks.saving import files
from lossframe.training import launch

pytestmark = pytest.mark.slow
SAVE = torch.save
WITHIN = 30
"""Seconds in which a rank must notice that another has gone."""
OPTIONS = [
    "trainer=ddp_cpu", "hydra.run.dir=run", "trainer.max_epochs=3", "trainer.enable_progress_bar=false", "log_every=2",
    "trainer.limit_train_batches=6", "trainer.num_sanity_val_steps=0",
    "+callbacks.failing._target_=test_failing_ranks.Failing",
]  # fmt: skip


class Failing(pl.Callback):
    """Kills its own rank, or raises an error there, at a place in the second epoch."""

    def __init__(self, place: str, rank: int) -> None:
        self.place, self.rank = place, rank

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 1 and trainer.global_rank == self.rank:
            if self.place == "drain":
                distributed.exchange = self._die
            if self.place == "checkpoint":
                files.torch.save = self._save  # type: ignore[attr-defined]

    def on_before_optimizer_step(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 8 and trainer.global_rank == self.rank:
            if self.place == "step":
                self._die()
            if self.place == "error":
                raise InputError("sample 3 is no picture")

    def _die(self, *_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _save(self, checkpoint: Any, file: Any, **options: Any) -> None:
        if "last" in str(getattr(file, "name", "")):
            file.write(b"half of it")
            file.flush()
            self._die()
        SAVE(checkpoint, file, **options)


@pytest.mark.parametrize(("place", "rank"), [("step", 1), ("step", 0), ("drain", 1), ("checkpoint", 0), ("error", 1)])
def test_rank_that_fails_ends_the_others_and_leaves_a_whole_checkpoint(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, place: str, rank: int
) -> None:
    arguments = [*OPTIONS, f"+callbacks.failing.place={place}", f"+callbacks.failing.rank={rank}"]
    logs, modules = tmp_path_factory.mktemp("logs"), f"{ROOT / 'tests'}{os.pathsep}{ROOT / 'tests' / 'faults'}"
    both = on_ranks(2, ROOT / "train.py", arguments, tmp_path, logs, PYTHONPATH=modules)
    failed = both[rank].end(120)
    started = time.monotonic()
    assert failed.returncode == (1 if place == "error" else -signal.SIGKILL), failed.stderr
    other = both[1 - rank].end(WITHIN)
    assert other.returncode not in (0, None)
    assert "Connection" in other.stderr, other.stderr
    assert time.monotonic() - started < WITHIN
    if place == "error":
        assert failed.stderr.splitlines()[-1] == "error: callbacks.failing: sample 3 is no picture"
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] == 0


RANK = """
import os, time
from lossframe.training import orphans
if os.fork():
    time.sleep(60)
os.environ["LOSSFRAME_LAUNCHER"] = str(os.getppid())
orphans.end_with_launcher()
print("started", flush=True)
time.sleep(60)
"""


def test_rank_ends_with_the_process_that_has_started_it() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RANK], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as first:
        assert first.stdout is not None
        first.stdout.readline()
        first.kill()
        _, said = first.communicate(timeout=WITHIN)  # at the end of the rank, which holds the pipes too
    assert b"which has started this rank, has ended" in said


def meet(killed: bool) -> None:
    """Join the ranks of this machine as torchrun's processes do; end without a farewell, or print what was agreed."""
    launch.meet_again()
    torch.distributed.init_process_group("gloo")
    total = torch.ones(1)
    torch.distributed.all_reduce(total)
    print(total.item(), os.environ["MASTER_PORT"], launch.started(), flush=True)
    os._exit(3 if killed else 0)


def test_ranks_that_torchrun_starts_again_meet_though_its_store_names_the_killed_ones(tmp_path: Path) -> None:
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True)
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{store.port}", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    said = []
    for restarts in range(3):
        agent = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": f"{restarts}"}
        ranks = [
            Forked(
                meet, restarts < 2, folder=tmp_path, logs=tmp_path,
                environment={**common, **agent, "RANK": f"{rank}", "LOCAL_RANK": f"{rank}"},
            )
            for rank in range(2)
        ]  # fmt: skip
        one, other = (rank.end(WITHIN) for rank in ranks)
        assert one.stdout == other.stdout, one.stderr + other.stderr
        said.append(one.stdout.split()[:2])
    assert [total for total, _ in said] == ["2.0"] * 3
    assert len({port for _, port in said}) == 3


class Plain(pl.LightningModule):
    """Learns one number from batches of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return (self.weight * batch).sum()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        distributed.total(batch.sum())

    def test_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        distributed.total(batch.sum())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def trained(rank: int, folder: Path, stage: str) -> None:
    """Train on one rank, whose loader of one stage has a batch more than that of the rank before."""
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", devices=2, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, default_root_dir=folder, log_every_n_steps=1,
        use_distributed_sampler=False, strategy=DDPStrategy(cluster_environment=Environment(rank, 2)),
        callbacks=[RankConsistency({})], num_sanity_val_steps=1,
    )  # fmt: skip
    train, val, test = (
        DataLoader([torch.ones(3)] * (2 + rank * (stage == name)), batch_size=None)  # type: ignore[arg-type]
        for name in ("train", "val", "test")
    )
    trainer.fit(Plain(), train, val)
    trainer.test(trainer.lightning_module, test, verbose=False)


@pytest.mark.parametrize("stage", ["train", "val", "test"])
def test_ranks_with_other_numbers_of_batches_are_refused(pool: Pool, tmp_path: Path, stage: str) -> None:
    found = f"the number of {stage} batches of loader 0: rank 0 has 2, rank 1 has 3"
    for _, failure in pool.outcomes(2, trained, tmp_path, stage):
        assert failure is not None
        assert isinstance(failure[0], InputError)
        assert found in str(failure[0])
