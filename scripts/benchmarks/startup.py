"""How long commands take to start: whole processes, one after the other."""

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch

from benchmarks.cases import Case, Contestant, Step, at_sizes

TRAIN = str(Path(__file__).parents[2] / "train.py")
BASE = ["-c", "import torch, pytorch_lightning, torchmetrics, torch.utils.tensorboard"]
OURS = ["-c", f"{BASE[1]}, lossframe.training.learner, lossframe.callbacks.monitor.loss_monitor, lossframe.losses"]
RUN = [TRAIN, "loss=triplet", "trainer.num_sanity_val_steps=0", "trainer.enable_progress_bar=false"]
FIRST_STEP = [*RUN, "+callbacks.end._target_=benchmarks.first_step.FirstStep"]
WHOLE = [*RUN, "trainer.max_steps=1", "trainer.limit_test_batches=1"]
QUICK = {
    "--help": [TRAIN, "--help"],
    "--cfg job": [TRAIN, "--cfg", "job"],
    "a misspelt loss": [TRAIN, "loss=tripet"],
    "a misspelt key": [TRAIN, "loss.triplet.margn=1"],
    "completion": [TRAIN, "-sc", "query=bash"],
}


def command(size: int, device: torch.device, name: str, arguments: list[str]) -> Step:
    """Prepare a whole process."""
    scripts = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": scripts, "COMP_LINE": "train.py loss=", "COMP_POINT": "14"}

    def step() -> object:
        with tempfile.TemporaryDirectory() as folder:
            ended = subprocess.run(
                [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            if ended.returncode != ("misspelt" in name):
                raise RuntimeError(f"{name} ended with {ended.returncode}: {ended.stderr[-500:]}")
            return ended

    return step


def cases(quick: bool) -> list[Case]:
    """Return the suite; the size means nothing."""
    base = Contestant("import torch and Lightning", partial(command, name="import", arguments=BASE))

    def against(name: str, arguments: list[str], *others: Contestant) -> list[Case]:
        return at_sizes(name, [1], Contestant(name, partial(command, name=name, arguments=arguments)), *others)

    return [
        *against("import lossframe", OURS, base),
        *against("train.py to its first step", FIRST_STEP, base),
        *against("train.py, one step and the test", WHOLE, base),
        *(case for name, arguments in QUICK.items() for case in against(name, arguments)),
    ]
