"""Starts the other ranks of this machine, each with the configuration of rank 0."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from hydra.types import RunMode

from lossframe.errors import InputError
from lossframe.training import orphans

_GPU = ("gpu", "cuda", "mps")
_STARTED_IN = os.getcwd()  # before Hydra changes the working directory, if hydra.job.chdir=true
_ON_OTHER_MACHINES = ("SlurmLauncher", "RayLauncher", "RayAWSLauncher")
_RENDEZVOUS = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "NODE_RANK", "LOCAL_RANK")


def launched_elsewhere() -> bool:
    """Return whether torchrun or SLURM started this process as one of several ranks."""
    return "LOCAL_RANK" in os.environ or _in_slurm()


def is_first() -> bool:
    """Return whether this process is rank 0, or the only one."""
    return int(os.environ.get("SLURM_PROCID" if _in_slurm() else "RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


@cache
def started() -> str:
    """Return the start time of this run, the same on every rank of every node; it names the run's directory."""
    now = time.strftime("%Y-%m-%d_%H-%M-%S")
    if _in_slurm():
        return f"slurm-{os.environ['SLURM_JOB_ID']}-{os.environ.get('SLURM_STEP_ID', '0')}"
    if _has_agent_store():
        from lossframe import distributed

        return distributed.first_rank_says("started", now)
    return now


def meet_again() -> None:
    """Let ranks of one machine that torchrun has started again meet at another port than those before.

    Torch keeps the addresses of ranks in the store of torchrun, where the new ones may find those of killed processes,
    to which they cannot connect.
    """
    one_machine = os.environ.get("LOCAL_WORLD_SIZE") == os.environ.get("WORLD_SIZE")
    if not (_has_agent_store() and one_machine and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"):
        return
    from lossframe import distributed

    started()  # which asks in torchrun's store
    port = distributed.first_rank_says("port", str(_free_port()))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, TORCHELASTIC_USE_AGENT_STORE="False")


def _has_agent_store() -> bool:
    """Return whether torchrun keeps the store in which its ranks meet."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def is_restarted() -> bool:
    """Return whether SLURM has requeued the job of this process, or torchrun has started its processes again."""
    return any(os.environ.get(name, "0") != "0" for name in ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"))


def _in_slurm() -> bool:
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in os.environ and not interactive


def is_of_sweep_elsewhere(hydra_config: Any) -> bool:
    """Return whether a launcher may start a sweep's jobs on other machines, whose devices this process does not see."""
    launcher = str(hydra_config.launcher._target_)
    return hydra_config.mode == RunMode.MULTIRUN and launcher.endswith(_ON_OTHER_MACHINES)


def check_nodes(number: int | None, launcher: str = "") -> None:
    """Raise an `InputError` without a number of machines, or if nothing starts the ranks of the other machines."""
    if number is None:
        raise InputError("trainer.num_nodes: wanted the number of machines, found none; add trainer.num_nodes=2")
    if number > 1 and not launched_elsewhere() and not launcher.endswith("SlurmLauncher"):
        raise InputError(
            f"trainer.num_nodes={number}: wanted to be started on each machine by torchrun or srun, found one process; "
            "conf/trainer/multi_node.yaml has the command, or use trainer=ddp for this machine alone"
        )


def check_devices(accelerator: str, devices: Any) -> None:
    """Raise an `InputError` if this machine cannot give `trainer.devices` ranks a device; warn of a shared core."""
    ranks = int(devices) if str(devices).isdigit() else 1 if devices == "auto" else 0
    if accelerator in _GPU or (accelerator == "auto" and not ranks):
        _check_gpus(accelerator, devices)
    elif not ranks:
        raise InputError(f"trainer.devices={_typed(devices)}: wanted a whole number from 1, as trainer.devices=1")
    elif accelerator == "cpu" and ranks > (most := 16 * (os.cpu_count() or 1)):
        raise InputError(f"trainer.devices={devices}: wanted at most {most} ranks of this machine, 16 for each core")
    elif accelerator == "cpu" and ranks > (cores := os.cpu_count() or 1) and is_first():
        print(f"warning: trainer.devices={ranks}: these ranks share {cores} cores, which is slower", file=sys.stderr)


def number_of_devices(accelerator: str, devices: Any) -> int:
    """Return how many ranks `trainer.accelerator` and `trainer.devices` ask for on this machine."""
    if str(devices).isdigit():
        return int(devices)
    if devices in ("auto", -1, "-1"):
        return max(1, _gpus()) if accelerator in (*_GPU, "auto") else 1
    return len(_listed(devices))


def _check_gpus(accelerator: str, devices: Any) -> None:
    found = _gpus()
    if found == 0:
        raise InputError(
            f"trainer.accelerator={accelerator}: wanted a GPU, found none that torch can use; use trainer=cpu, or "
            "trainer=ddp_cpu for several ranks"
        )
    if devices in ("auto", -1, "-1"):
        return
    wanted = _listed(devices)
    if not wanted or len(set(wanted)) < len(wanted) or not all(0 <= index < found for index in wanted):
        raise InputError(
            f"trainer.devices={_typed(devices)}: wanted 1 to {found} GPUs, -1 for all, or a list of theirs from 0 to "
            f"{found - 1}, as trainer.devices=[0]"
        )


def _listed(devices: Any) -> list[int]:
    """Return the numbers of the devices that are asked for: of N the first N; none if they are no numbers."""
    if str(devices).isdigit():
        return list(range(int(devices)))
    each = devices.split(",") if isinstance(devices, str) else devices
    whole = isinstance(each, Sequence) and all(str(one).strip().isdigit() for one in each)
    return [int(one) for one in each] if whole else []


def _gpus() -> int:
    """Return how many GPUs torch can use: those of CUDA, or Apple's one."""
    import torch

    return torch.cuda.device_count() or int(torch.backends.mps.is_available())


def _typed(devices: Any) -> str:
    return str(devices).replace(" ", "")


@contextmanager
def local_ranks(number: int, environment: dict[str, str], arguments: Sequence[str] = ("train",)) -> Iterator[None]:
    """Make this process rank 0, start `lossframe` with arguments as ranks 1 to `number - 1`, and end them with it.

    If one of them fails, this process ends with status 1: it would wait for that rank for ever. Processes that torchrun
    or SLURM launched start no further ranks.
    """
    if number == 1 or launched_elsewhere():
        orphans.end_with_launcher()
        yield
        return
    children = _start(number, environment, arguments)
    finished = threading.Event()
    threading.Thread(target=_watch, args=(children, finished), daemon=True).start()
    try:
        yield
        for child in children:
            child.wait(60)
    except RuntimeError as error:
        _blame(children, error)
        raise
    finally:
        finished.set()
        for child in children:
            child.kill()
            child.wait()
        for name in _RENDEZVOUS:
            os.environ.pop(name, None)


def _start(number: int, environment: dict[str, str], arguments: Sequence[str]) -> list[subprocess.Popen[bytes]]:
    """Set the variables of rank 0 in this process, and start the other ranks with theirs.

    They do not repeat the command of this process, which is another program in a worker of a sweep's launcher, but
    find the modules that this process finds.
    """
    command = [sys.executable, "-m", "lossframe", *arguments]
    threads = str(max(1, (os.cpu_count() or 1) // number))
    variables = {"OMP_NUM_THREADS": threads, **os.environ, **environment, "PYTHONPATH": _module_path()}
    rendezvous = dict(zip(_RENDEZVOUS, ("127.0.0.1", str(_free_port()), str(number), "0", "0"), strict=True))
    os.environ.update(rendezvous)
    common = {**variables, **rendezvous, orphans.LAUNCHER: str(os.getpid())}
    return [subprocess.Popen(command, env={**common, "LOCAL_RANK": str(rank)}) for rank in range(1, number)]


def _module_path() -> str:
    """Return the folders in which this process looks for modules, absolute where it was started."""
    return os.pathsep.join(os.path.join(_STARTED_IN, folder) for folder in sys.path)


def _watch(children: list[subprocess.Popen[bytes]], finished: threading.Event) -> None:
    """End this process once a child has failed, unless it ends within 10 seconds; it may wait for that rank."""
    while not finished.wait(0.5):
        failed = [child for child in children if child.poll()]
        if failed and not finished.wait(10):
            print(f"rank {1 + children.index(failed[0])} ended with {failed[0].returncode}; stopping", file=sys.stderr)
            for child in children:
                child.kill()
            sys.stdout.flush()
            os._exit(1)


def _blame(children: list[subprocess.Popen[bytes]], error: RuntimeError) -> None:
    """Name the rank that has failed, if an error says that the connection to another rank is lost."""
    lost = type(error).__name__.startswith("Dist") or "gloo" in str(error)
    deadline = time.monotonic() + (5 if lost else 0)
    while time.monotonic() < deadline:
        for number, child in enumerate(children):
            if child.poll():
                killed = child.returncode == -signal.SIGKILL
                why = "killed, perhaps because memory ran out" if killed else "its own message is above"
                raise InputError(f"rank {number + 1} ended with status {child.returncode}: {why}") from error
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
