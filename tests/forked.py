"""Processes for tests, forked from one that has imported torch and Lightning, so that a process starts in 0.1 s."""

import atexit
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
Completed = subprocess.CompletedProcess[str]
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["pytorch_lightning", "torchmetrics", "hydra.utils", "torch.utils.tensorboard"])


class Forked:
    """Calls `function(*arguments)` in a process of its own, in a folder, with further environment variables.

    What the process and its children print is in the files `outN.txt` and `errN.txt` of the folder `logs`.
    """

    number = 0

    def __init__(
        self, function: Callable[..., Any], *arguments: Any, folder: Path, logs: Path, environment: Mapping[str, str]
    ) -> None:
        Forked.number += 1
        self.out, self.err = (logs / f"{kind}{Forked.number}.txt" for kind in ("out", "err"))
        self.process = context.Process(
            target=_call, args=(function, arguments, folder, self.out, self.err, {**os.environ, **environment})
        )
        self.process.start()
        assert self.process.pid is not None
        self.pid: int = self.process.pid

    def end(self, within: float) -> Completed:
        """Wait for the end of the process, and return what it has printed; fail after so many seconds."""
        self.process.join(within)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
        assert code is not None, f"a process did not end within {within} s:\n{self.err.read_text()}"
        return subprocess.CompletedProcess([], code, self.out.read_text(), self.err.read_text())


def run_script(path: Path, arguments: list[str]) -> None:
    """Run a script as `python PATH ARGUMENTS` does, with the modules that it would find."""
    sys.argv = [str(path), *arguments]
    others = [each for each in sys.path if not each.startswith(str(ROOT / "tests"))]
    named = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    sys.path = list(dict.fromkeys([str(path.parent), *named, *others]))
    runpy.run_path(str(path), run_name="__main__")


def on_ranks(
    number: int, script: Path, arguments: list[str], folder: Path, logs: Path, **environment: str
) -> list[Forked]:
    """Start a script on ranks of this machine, as torchrun does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": f"{number}", "NODE_RANK": "0"}
    common = {**environment, **rendezvous, "LOCAL_WORLD_SIZE": f"{number}", "OMP_NUM_THREADS": "1"}
    return [
        Forked(
            run_script, script, arguments, folder=folder, logs=logs,
            environment={**common, "RANK": f"{rank}", "LOCAL_RANK": f"{rank}"},
        )
        for rank in range(number)
    ]  # fmt: skip


def _call(
    function: Callable[..., Any], arguments: Any, folder: Path, out: Path, err: Path, environment: dict[str, str]
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for path, descriptor in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND), descriptor)
    import torch

    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", "1")))
    try:
        function(*arguments)
    finally:
        atexit._run_exitfuncs()
