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
OURS = ["-c", f"{BASE[1]}, lossframe.learner, lossframe.monitor, lossframe.losses"]
FIRST_STEP = [
    TRAIN, "loss=triplet", "trainer.max_steps=1", "trainer.limit_val_batches=0", "trainer.num_sanity_val_steps=0",
    "trainer.limit_test_batches=0", "callbacks=[]", "logger=[]", "trainer.enable_progress_bar=false",
]  # fmt: skip
QUICK = {
    "--help": [TRAIN, "--help"],
    "--cfg job": [TRAIN, "--cfg", "job"],
    "a misspelt loss": [TRAIN, "loss=tripet"],
    "a misspelt key": [TRAIN, "loss.triplet.margn=1"],
    "completion": [TRAIN, "-sc", "query=bash"],
}


def command(size: int, device: torch.device, arguments: list[str]) -> Step:
    """Prepare a whole process."""
    environment = {**os.environ, "COMP_LINE": "train.py loss=", "COMP_POINT": "14"}

    def step() -> object:
        with tempfile.TemporaryDirectory() as folder:
            return subprocess.run(
                [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, check=False
            )

    return step


def cases(quick: bool) -> list[Case]:
    """Return the suite; the size means nothing."""
    base = Contestant("import torch and Lightning", partial(command, arguments=BASE))

    def against(name: str, arguments: list[str], *others: Contestant) -> list[Case]:
        return at_sizes(name, [1], Contestant(name, partial(command, arguments=arguments)), *others)

    return [
        *against("import lossframe", OURS, base),
        *against("the first step", FIRST_STEP, base),
        *(case for name, arguments in QUICK.items() for case in against(name, arguments)),
    ]
