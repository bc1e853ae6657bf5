"""Tells stories of runs that are interrupted, resumed and compared with uninterrupted ones."""

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from scripts.crashes import faults, records

ROOT = Path(__file__).parent.parent.parent
EVERY = 2
OPTIONS = [
    "loss=[cross_entropy,center]", "weights.center=0.01", "model._target_=scripts.crashes.faults.NoisyEmbedder",
    "metrics=[retrieval,classification]", "callbacks=[default,hard_samples]", "log_every=4", "trainer.max_epochs=3",
    "+callbacks.crash._target_=scripts.crashes.faults.Crash", "trainer.precision=64-true",
    "trainer.accumulate_grad_batches=3", "trainer.val_check_interval=6", "trainer.enable_progress_bar=false",
    f"checkpoint_every={{minutes:null,steps:{EVERY}}}",
]  # fmt: skip
"""A run of 39 micro-batches, 15 steps, 6 validations and 4 test batches."""
DIGITS = 13
"""Digits of the statistics that do not depend on where a checkpoint is saved, which merges the moments until then."""
RANKS = {1: ["trainer=cpu"], 2: ["trainer=ddp_cpu", "trainer.devices=2"]}
MOST = {"train": 20, "step": 8, "val": 6, "save": 6, "rotate": 6, "test": 3}
"""Greatest number of times that a run may pass a place before it is interrupted."""


def start(folder: Path, arguments: list[str], crash: str = "") -> subprocess.CompletedProcess[str]:
    """Run a training to its end, or to its crash."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", faults.CRASH: crash or ":::"}
    return subprocess.run(
        [sys.executable, "-m", "lossframe", "train", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def uninterrupted(folder: Path, ranks: int, options: Sequence[str] = OPTIONS) -> None:
    """Train without interruption in `folder`/whole."""
    folder.mkdir()
    whole = start(folder, [*options, *RANKS[ranks], "run_dir=whole"])
    if whole.returncode:
        raise RuntimeError(whole.stderr)


def draw(chance: random.Random, ranks: int) -> str:
    """Return a crash: mostly kill -9, in any place."""
    place = chance.choice(list(MOST))
    gentle = place in ("train", "step", "val") and chance.random() < 0.3
    kind = chance.choice(["SIGTERM", "SIGINT"]) if gentle else "SIGKILL"
    rank = 0 if place in ("save", "rotate") else chance.randrange(ranks)
    return f"{kind}:{place}:{chance.randint(1, MOST[place])}:{rank}"


def resumed(run: Path) -> list[str]:
    """Return the arguments that go on with a run: from its checkpoint, or anew where it has none."""
    last = run / "checkpoints" / "last.ckpt"
    return [f"ckpt={last}"] if last.exists() else []


class Told(NamedTuple):
    """How many of a story's crashes came before the run's end, and how it differs from the uninterrupted run."""

    interruptions: int
    differences: list[str]


def story(folder: Path, ranks: int, crashes: list[str], options: Sequence[str] = OPTIONS) -> Told:
    """Interrupt one run by each crash, finish it, and compare it with the uninterrupted run `whole`."""
    run = folder / "killed"
    shutil.rmtree(run, ignore_errors=True)
    fresh = [*options, *RANKS[ranks], f"run_dir={run}"]
    happened = []
    for crash in [*crashes, ""]:
        arguments = resumed(run)
        if not arguments:
            shutil.rmtree(run, ignore_errors=True)
        result = start(folder, arguments or fresh, crash)
        if "crash:" not in result.stdout:
            if result.returncode:
                return Told(
                    len(happened), [f"{crash or 'the end'}: status {result.returncode}: {result.stderr[-2000:]}"]
                )
            break
        happened.append(crash)
        print(f"  {crash:<22} status {result.returncode:>4}, {_next(run)}", flush=True)
        time.sleep(0.5 * (ranks - 1))  # the other rank notices
    saved_elsewhere = any(not crash.startswith("SIGKILL") for crash in happened)
    return Told(len(happened), records.differences(folder / "whole", run, DIGITS if saved_elsewhere else 17))


def _next(run: Path) -> str:
    """Say where a run goes on."""
    if not resumed(run):
        return "starts anew"
    return f"goes on from step {torch.load(run / 'checkpoints' / 'last.ckpt', weights_only=True)['global_step']}"
