"""Real ranks for tests: processes that are started once a session and joined by gloo, as many as a test asks for."""

import datetime
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from forked import context

TIMEOUT = 60


def _serve(rank: int, connection: Connection) -> None:
    torch.set_num_threads(1)
    while (job := connection.recv()) is not None:
        function, arguments, world_size, store = job
        try:
            dist.init_process_group(
                "gloo", init_method=f"file://{store}", rank=rank, world_size=world_size,
                timeout=datetime.timedelta(seconds=TIMEOUT),
            )  # fmt: skip
            connection.send((function(rank, *arguments), None))
        except Exception as error:
            connection.send((None, (error, traceback.format_exc())))
        finally:
            dist.destroy_process_group()


class Pool:
    """Runs `function(rank, *arguments)` on the first `world_size` of its processes."""

    def __init__(self, size: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.jobs = 0
        self.connections: list[Connection] = []
        self.processes = []
        for rank in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, theirs), daemon=True)
            process.start()
            self.connections.append(ours)
            self.processes.append(process)

    def outcomes(self, world_size: int, function: Callable[..., Any], *arguments: Any) -> list[tuple[Any, Any]]:
        """Return each rank's result and what it raised."""
        self.jobs += 1
        store = Path(self.folder.name) / f"job{self.jobs}"
        for connection in self.connections[:world_size]:
            connection.send((function, arguments, world_size, store))
        received = []
        for connection in self.connections[:world_size]:
            assert connection.poll(2 * TIMEOUT), f"a rank did not answer within {2 * TIMEOUT} s"
            received.append(connection.recv())
        return received

    def run(self, world_size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Return each rank's result; what a rank raised fails the test."""
        outcomes = self.outcomes(world_size, function, *arguments)
        for rank, (_, failure) in enumerate(outcomes):
            assert failure is None, f"rank {rank}:\n{failure[1]}"
        return [result for result, _ in outcomes]

    def close(self) -> None:
        """End the processes."""
        for connection in self.connections:
            connection.send(None)
        for process in self.processes:
            process.join(30)
        self.folder.cleanup()
