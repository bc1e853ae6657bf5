"""Threads of one core each, for work of many small steps: within each step, cores would wait for one another."""

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
    """Return what the work on each part gives, all parts at once; without gradient."""
    inference = torch.is_inference_mode_enabled()  # which is a thread's own, and so is the next

    def quietly(part: A) -> B:
        with torch.inference_mode(inference), torch.no_grad():
            return work(part)

    if len(parts) == 1:
        return [quietly(parts[0])]
    number = torch.get_num_threads()
    try:
        pool = _pool(os.getpid(), number)
        torch.set_num_threads(1)  # for MKL, whose number is the process', not a thread's
        tasks = [pool.submit(quietly, part) for part in parts]
        wait(tasks)  # all of them, also where one fails: what they work on is not theirs after this
        return [task.result() for task in tasks]
    finally:
        torch.set_num_threads(number)


@functools.cache
def _pool(process: int, number: int) -> ThreadPoolExecutor:
    """Start threads of this process, for those of one that forked are not in its children."""
    ready = threading.Barrier(number + 1, timeout=60)

    def start() -> None:
        torch.set_num_threads(1)  # of this thread, and of those that start later
        ready.wait()

    pool = ThreadPoolExecutor(number, "lossframe", start)
    for _ in range(number):
        pool.submit(int)
    ready.wait()
    torch.set_num_threads(number)
    return pool
