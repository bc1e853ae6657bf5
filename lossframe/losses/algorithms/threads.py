"""Runs work of many small operations in threads of one core each, because cores that share an operation wait."""

import functools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

A = TypeVar("A")
B = TypeVar("B")


def each(work: Callable[[A], B], parts: Sequence[A]) -> list[B]:
    """Return the results of the work on each part; runs all parts at once, without gradient."""
    inference = torch.is_inference_mode_enabled()  # grad mode and inference mode belong to a thread

    def quietly(part: A) -> B:
        with torch.inference_mode(inference), torch.no_grad():
            return work(part)

    if len(parts) == 1:
        return [quietly(parts[0])]
    number = torch.get_num_threads()
    try:
        pool = _pool(os.getpid(), number)
        torch.set_num_threads(1)  # for MKL, which has one number of threads per process
        tasks = [pool.submit(quietly, part) for part in parts]
        wait(tasks)  # for all, even if one fails: the caller may free the tensors that the tasks use
        return [task.result() for task in tasks]
    finally:
        torch.set_num_threads(number)


@functools.cache
def _pool(process: int, number: int) -> ThreadPoolExecutor:
    """Start the threads of this process; a forked child has none of its parent's threads."""
    ready = threading.Barrier(number + 1, timeout=60)

    def start() -> None:
        torch.set_num_threads(1)  # for this thread and for all that start later
        ready.wait()

    pool = ThreadPoolExecutor(number, "lossframe", start)
    for _ in range(number):
        pool.submit(int)
    ready.wait()
    torch.set_num_threads(number)
    return pool
