"""Some rows at a time: what is computed of them stays in a core's cache, and each core has its own."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

_CHUNK = 1 << 15
"""How many elements torch leaves to one thread."""
_ON_DEVICE = 1 << 26
"""How many elements are worked on at a time where there is no cache to stay in: it bounds the memory."""

Result = TypeVar("Result")


def chunks(tensor: Tensor) -> list[slice]:
    """Cut the rows, dim 0, into chunks of few elements; at least one slice, and while compiling just one."""
    rows, elements = len(tensor), _CHUNK if tensor.device.type == "cpu" else _ON_DEVICE
    if torch.compiler.is_compiling() or tensor.numel() <= elements:
        return [slice(0, rows)]
    step = max(1, elements * rows // tensor.numel())
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def by_rows(task: Callable[[slice], Result], tensor: Tensor) -> list[Result]:
    """Return the results of a task for all `chunks` of a tensor; on a CPU, threads share them out.

    A step of few elements is not worth torch's own threads, which have to meet after each.
    """
    parts = chunks(tensor)
    if len(parts) == 1 or tensor.device.type != "cpu" or torch.get_num_threads() == 1:
        return [task(part) for part in parts]
    inference, grad = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def in_same_mode(part: slice) -> Result:
        with torch.inference_mode(inference), torch.set_grad_enabled(grad):
            return task(part)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(in_same_mode, parts))
