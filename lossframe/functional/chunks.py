"""Some rows at a time: what is computed of them stays in a core's cache, and each core has its own."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

_CHUNK = 1 << 15
"""How many elements torch leaves to one thread."""

Result = TypeVar("Result")


def by_rows(task: Callable[[slice], Result], shape: torch.Size, device: torch.device) -> list[Result]:
    """Return the results of a task for all rows of a matrix of that shape, some at a time; not on a GPU.

    A step of few elements is not worth torch's own threads, which have to meet after each.
    """
    rows, columns = shape
    if device.type != "cpu" or torch.compiler.is_compiling() or rows * columns <= _CHUNK:
        return [task(slice(0, rows))]
    step = max(1, _CHUNK // columns)
    parts = [slice(start, min(start + step, rows)) for start in range(0, rows, step)]
    threads, inference = torch.get_num_threads(), torch.is_inference_mode_enabled()

    def in_same_mode(part: slice) -> Result:
        with torch.inference_mode(inference):
            return task(part)

    if threads == 1:
        return [task(part) for part in parts]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(in_same_mode, parts))
