"""Whole runs on several ranks give the numbers of one rank, in one folder per run."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from pool import Pool
from torch import nn

from lossframe.callbacks.rank_consistency import RankConsistency
from scripts import compare_runs

pytestmark = pytest.mark.slow
Command = Callable[..., subprocess.CompletedProcess[str]]
OnEachRank = Callable[..., None]
EXACT = ["trainer.precision=64-true", "trainer.max_epochs=2", "trainer.enable_progress_bar=false", "log_every=5"]


def compare(one: Path, other: Path, rtol: float = 1e-8) -> None:
    """Compare two runs by the script of that name, which ends with a message if they differ."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["compare_runs.py", str(one), str(other), "--rtol", str(rtol)])
        with pytest.raises(SystemExit) as ended:
            compare_runs.main()
    assert ended.value.code == 0


def test_run_on_several_ranks_equals_a_run_on_one(on_each_rank: OnEachRank, tmp_path: Path) -> None:
    loss = "loss=[cross_entropy,triplet,center,decov,quadratic_weighted_kappa]"
    for ranks in (1, 3):
        on_each_rank(ranks, loss, "metrics=[retrieval,classification]", f"hydra.run.dir={ranks}", *EXACT)
    compare(tmp_path / "1", tmp_path / "3")


def test_run_with_sharded_parameters_equals_a_run_on_one_and_resumes(on_each_rank: OnEachRank, tmp_path: Path) -> None:
    # float32 is the only precision here, and a hinge would turn its rounding into another run: a smooth objective
    loss = ["loss=[cross_entropy,l1_l2_penalty]", "loss.l1_l2_penalty.l2=0.05", "metrics=retrieval"]
    for name, trainer in (("ddp", "ddp_cpu"), ("fsdp", "fsdp")):
        on_each_rank(2, *loss, f"trainer={trainer}", *EXACT[1:], f"hydra.run.dir={name}")
    compare(tmp_path / "ddp", tmp_path / "fsdp", rtol=1e-3)
    on_each_rank(2, *loss, "trainer=fsdp", *EXACT[1:], "trainer.max_epochs=1", "hydra.run.dir=resumed")
    (tmp_path / "resumed" / "test").rename(tmp_path / "test of the first epoch")
    on_each_rank(2, *EXACT[1:], f"ckpt={tmp_path}/resumed/checkpoints/last.ckpt")
    compare(tmp_path / "fsdp", tmp_path / "resumed", rtol=1e-5)


def test_sweep_over_two_ranks_writes_one_folder_per_run(command: Command, tmp_path: Path) -> None:
    brief = [f"trainer.limit_{stage}_batches=2" for stage in ("train", "val", "test")]
    swept = command("-m", "loss=triplet,contrastive", "trainer=ddp_cpu", *EXACT, *brief, "hydra.sweep.dir=sweep")
    assert swept.returncode == 0, swept.stderr
    folders = sorted(path.name for path in (tmp_path / "sweep").iterdir() if path.is_dir())
    assert folders == ["0_triplet", "1_contrastive"]
    for folder, loss in zip(folders, ("triplet", "contrastive"), strict=True):
        assert f"test/loss/{loss}" in json.loads((tmp_path / "sweep" / folder / "metrics.json").read_text())


def test_rank_that_dies_ends_the_run(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), "trainer=ddp_cpu", "trainer.max_epochs=500", "hydra.run.dir=run"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (rank,) = (int(pid) for pid in children if b"train.py" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(rank, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "rank 1 ended with status -9: killed" in errors.splitlines()[-1], errors


@pytest.mark.skipif(shutil.which("ip") is None, reason="needs the command ip, to make network namespaces")
def test_run_on_two_nodes_equals_one_process() -> None:
    script = ["bash", str(ROOT / "scripts" / "two_nodes.sh"), sys.executable]
    result = subprocess.run(script, capture_output=True, text=True, timeout=400, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    if result.stdout.startswith("skipped: "):
        pytest.skip(result.stdout.strip())
    assert "weights" in result.stdout


def agree(rank: int, what: str) -> None:
    torch.manual_seed(rank if what == "weights" else 0)
    config: dict[str, Any] = {"loss": {"margin": rank if what == "config" else 0}, "seed": 1}
    RankConsistency(config).setup(None, nn.Linear(2, 2), "fit")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("what", "named"), [("config", "'loss.margin': rank 0 has 0, rank 1 has 1"), ("weights", "weight")]
)
def test_ranks_with_different_runs_raise_an_error(pool: Pool, what: str, named: str) -> None:
    for _, failure in pool.outcomes(2, agree, what):
        assert named in str(failure[0])
    pool.run(2, agree, "nothing")
