"""Starting the other ranks of one machine, each with the configuration of the first."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from lossframe.errors import InputError


def launched_elsewhere() -> bool:
    """Return whether torchrun or SLURM has started this process as one of several ranks."""
    return "LOCAL_RANK" in os.environ or _in_slurm()


def is_first() -> bool:
    """Return whether this process is rank 0, or the only one."""
    return int(os.environ.get("SLURM_PROCID" if _in_slurm() else "RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


@cache
def started() -> str:
    """Return when this run was started, the same on every rank of every node: it names the run's folder."""
    now = time.strftime("%Y-%m-%d_%H-%M-%S")
    if _in_slurm():
        return f"slurm-{os.environ['SLURM_JOB_ID']}-{os.environ.get('SLURM_STEP_ID', '0')}"
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        from lossframe import distributed

        return distributed.first_rank_says(now)
    return now


def _in_slurm() -> bool:
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in os.environ and not interactive


def number_of_devices(accelerator: str, devices: Any) -> int:
    """Return how many ranks `trainer.accelerator` and `trainer.devices` ask for on this machine."""
    if isinstance(devices, int | str) and str(devices).isdigit():
        if int(devices) == 0:
            raise InputError("trainer.devices=0: wanted 1 or more, or auto")
        return int(devices)
    if isinstance(devices, str | int):  # "auto", -1, "0,2"
        if "," in str(devices):
            return len(str(devices).split(","))
        import torch

        return max(1, torch.cuda.device_count()) if accelerator in ("gpu", "cuda", "auto") else 1
    return len(devices)


@contextmanager
def local_ranks(number: int, command: list[str], environment: dict[str, str]) -> Iterator[None]:
    """Make this process rank 0, run `command` as ranks 1 to `number - 1`, and end them with the block.

    If one of them fails, this process is interrupted instead of waiting for it for ever.
    """
    if number == 1 or launched_elsewhere():
        yield
        return
    address = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(number),
        "NODE_RANK": "0",
    }
    saved = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // number)), **os.environ}
    os.environ.update(address, LOCAL_RANK="0")
    children = [
        subprocess.Popen(command, env={**saved, **address, **environment, "LOCAL_RANK": str(rank)})
        for rank in range(1, number)
    ]
    finished = threading.Event()
    threading.Thread(target=_watch, args=(children, finished), daemon=True).start()
    try:
        yield
        for child in children:
            child.wait(60)
    finally:
        finished.set()
        for child in children:
            child.kill()
            child.wait()
        for name in (*address, "LOCAL_RANK"):
            os.environ.pop(name, None)


def _watch(children: list[subprocess.Popen[bytes]], finished: threading.Event) -> None:
    """Interrupt this process once a child has failed and rank 0 has not noticed it by itself."""
    while not finished.wait(0.5):
        failed = [child for child in children if child.poll()]
        if failed and not finished.wait(10):
            print(f"rank {1 + children.index(failed[0])} ended with {failed[0].returncode}; stopping", file=sys.stderr)
            for child in children:
                child.kill()
            os.kill(os.getpid(), signal.SIGTERM)
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
