"""Two ranks over gloo, of which the second follows the first."""

import functools
import tempfile
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch.distributed as dist

from benchmarks.cases import Step

BATCH = 256
IN_A_ROW = 10
"""How many drains a step makes: the second rank takes its time to wake up."""


def ours(terms: int) -> Step:
    """Prepare a drain of so many terms, each with mean, std, min and max."""
    from lossframe import drain
    from lossframe.statistics.recorder import Recorder

    recorders, values = {f"term{k}": Recorder({}) for k in range(terms)}, torch.rand(BATCH)

    def step() -> object:
        for recorder in recorders.values():
            recorder.accumulate("loss", values)
        return drain(recorders)

    return step


def torchmetrics(terms: int) -> Step:
    """Prepare syncing mean, min, max and the two sums of a std for so many terms."""
    from torchmetrics.aggregation import MaxMetric, MeanMetric, MinMetric, SumMetric

    values = torch.rand(BATCH)
    metrics = [
        kind("disable") for _ in range(terms) for kind in (MeanMetric, MinMetric, MaxMetric, SumMetric, SumMetric)
    ]

    def step() -> object:
        for metric in metrics:
            metric.reset()
            metric.update(values)
        return [metric.compute() for metric in metrics]

    return step


STEPS: dict[str, Callable[[int], Step]] = {"lossframe": ours, "torchmetrics": torchmetrics}


def on_two_ranks(size: int, device: torch.device, name: str) -> Step:
    """Prepare a step that another rank takes too."""
    follower = _follower()
    mine = STEPS[name](size)

    def step() -> None:
        follower.send((name, size))
        for _ in range(IN_A_ROW):
            mine()

    return step


@functools.cache
def _follower() -> Connection:
    """Start the other rank, once a process."""
    context = get_context("forkserver")
    here, there = context.Pipe()
    store = str(Path(tempfile.mkdtemp()) / "store")
    context.Process(target=_follow, args=(there, store), daemon=True).start()
    _join(0, store)
    return here


def _follow(connection: Connection, store: str) -> None:
    torch.set_num_threads(1)
    _join(1, store)
    steps: dict[tuple[str, int], Step] = {}
    while True:
        try:
            name, size = connection.recv()
        except EOFError:  # the first rank has gone
            return
        if (name, size) not in steps:
            steps[name, size] = STEPS[name](size)
        for _ in range(IN_A_ROW):
            steps[name, size]()


def _join(rank: int, store: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
