"""Runs a sweep of two jobs by every sweeper and launcher, each in a fresh environment with its extra.

python scripts/check_launchers.py [--extras joblib ray ...] [--base] [--keep FOLDER]

Needs pip's package index; each environment installs torch, unless --base adds the packages of this environment behind
those of the extra. What takes longer than --limit seconds counts as failed. Submitting to SLURM is not checked.
"""

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
UNPINNED = ("optuna", "optuna-storage", "ray")
"""Extras whose plugins want older releases than constraints.txt has."""
SMALL = ["trainer.max_epochs=2", "trainer.limit_train_batches=2", "trainer.enable_progress_bar=false"]
GRID = ["optimizer.lr=1e-3,1e-6"]
TRIALS = ["hydra/sweeper=optuna", "optimizer.lr=interval(0.001,0.01)", "hydra.sweeper.direction=maximize"]
TRIALS += ["hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1"]
RANDOM = [*TRIALS, "hydra/sweeper/sampler=random", "hydra.sweeper.sampler.seed=1"]
STORED = [*TRIALS, "hydra.sweeper.storage=sqlite:///study.db", "hydra.sweeper.study_name=lr"]
PRUNING = ["callbacks=[default,pruning]", "callbacks.pruning.pruner.n_startup_trials=1"]
PRUNING += ["callbacks.pruning.pruner.n_warmup_steps=0"]
RANKS = ["trainer=ddp_cpu"]
RAY = ["hydra/launcher=ray_cluster", "+hydra.launcher.ray.init.num_cpus=2"]


class Case(NamedTuple):
    """A sweep in the environment of an extra."""

    extra: str
    name: str
    arguments: Sequence[str]


CASES = [
    Case("pruning", "grid, pruned", [*GRID, *PRUNING]),
    Case("pruning", "grid, pruned, two ranks", [*GRID, *PRUNING, *RANKS]),
    Case("joblib", "joblib", [*GRID, "hydra/launcher=parallel"]),
    Case("joblib", "joblib, two ranks", [*GRID, "hydra/launcher=parallel", *RANKS]),
    Case("submitit", "submitit_local", [*GRID, "hydra/launcher=submitit_local"]),
    Case("submitit", "submitit_local, two ranks", [*GRID, "hydra/launcher=submitit_local", *RANKS]),
    Case("ray", "ray", [*GRID, *RAY]),
    Case("ray", "ray, two ranks", [*GRID, *RAY, *RANKS]),
    Case("optuna", "optuna, TPE in memory", TRIALS),
    Case("optuna", "optuna, random", RANDOM),
    Case("optuna-storage", "optuna, sqlite", STORED),
    Case("optuna-storage", "optuna, sqlite, continued", STORED),
    Case("optuna-storage", "optuna, pruned", [*TRIALS, *PRUNING]),
]


def main() -> int:
    """Check the extras that are asked for; return 1 if a sweep did not hold."""
    known = list(dict.fromkeys(case.extra for case in CASES))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", nargs="+", choices=known, default=known)
    parser.add_argument("--base", action="store_true")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where environments and runs stay")
    parser.add_argument("--limit", type=float, default=300)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.keep or Path(temporary)).absolute()
        rows = [row for extra in given.extras for row in check(extra, folder, given.base, given.limit)]
    print(f"\n{'extra':<16}{'sweep':<28}{'seconds':>8}  held")
    for extra, name, seconds, wrong in rows:
        print(f"{extra:<16}{name:<28}{seconds:8.0f}  {wrong or 'yes'}")
    return int(any(wrong for *_, wrong in rows))


def check(extra: str, folder: Path, base: bool, limit: float) -> Iterator[tuple[str, str, float, str]]:
    """Install an extra and run its sweeps; yield a row of the table for each."""
    begun = time.monotonic()
    try:
        python = installed(extra, folder / extra, base)
    except subprocess.CalledProcessError as error:
        yield extra, "installation", time.monotonic() - begun, error.stderr.strip().splitlines()[-1]
        return
    yield extra, "installation", time.monotonic() - begun, ""
    for number, case in enumerate(case for case in CASES if case.extra == extra):
        begun = time.monotonic()
        wrong = swept(python, case.arguments, folder / f"{extra}_runs", f"sweep{number}", limit)
        yield extra, case.name, time.monotonic() - begun, wrong


def installed(extra: str, folder: Path, base: bool) -> Path:
    """Make an environment with an extra, and return its interpreter."""
    if not (folder / "bin" / "python").exists():
        venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pins = [] if extra in UNPINNED else ["-c", str(ROOT / "constraints.txt")]
    if base:
        site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
        (site / "base.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = [python, "-m", "pip", "install", "-q", *pins, "-e", f"{ROOT}[{extra}]"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return python


def swept(python: Path, arguments: Sequence[str], folder: Path, name: str, limit: float) -> str:
    """Run a sweep; return what is wrong with it, or nothing."""
    folder.mkdir(exist_ok=True, parents=True)
    command = [python, "-m", "lossframe", "train", "-m", *arguments, *SMALL, f"run_dir={name}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (folder / f"{name}.log").open("w") as log:
        try:
            subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=log, timeout=limit, check=True)
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
            return f"{type(error).__name__}: {(folder / f'{name}.log').read_text().strip()[-200:]}"
    found = [json.loads(file.read_text()) for file in sorted(folder.glob(f"{name}/*/metrics.json"))]
    if len(found) != 2 or not all("val/precision_at_1" in each for each in found):
        return f"wanted two tested jobs, found {len(found)}"
    pruned = len(list(folder.glob(f"{name}/*/pruned.txt")))
    if "optimizer.lr=1e-3,1e-6" in arguments and any("pruning" in each for each in arguments) and pruned != 1:
        return f"wanted one pruned job, found {pruned}"
    return "" if "report           lossframe report" in (folder / f"{name}.log").read_text() else "no summary"


if __name__ == "__main__":
    sys.exit(main())
