"""Messages from every rank to every rank."""

import pickle
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from lossframe.distributed.group import collective_device, world_size


def exchange(message: object, capacity: int, device: torch.device) -> list[Any]:
    """Give every rank the messages of all ranks, in rank order, in one collective.

    Every rank sends `capacity` bytes whatever its message is, so that the shape of the collective never depends
    on what a rank saw. A message that does not fit is noticed by all ranks alike, and costs a second collective.
    `capacity` must be the same on all ranks.
    """
    if world_size() == 1:
        return [message]
    content = torch.frombuffer(bytearray(pickle.dumps(message)), dtype=torch.uint8)
    everyone = _send(content, capacity, device)
    sizes = [_size(buffer) for buffer in everyone]
    if max(sizes) > capacity:
        everyone = _send(content, max(sizes), device)
    return [pickle.loads(buffer[8 : 8 + size].numpy().tobytes()) for buffer, size in zip(everyone, sizes, strict=True)]


def _send(content: Tensor, capacity: int, device: torch.device) -> list[Tensor]:
    buffer = torch.zeros(8 + capacity, dtype=torch.uint8)
    buffer[:8] = torch.tensor([content.numel()], dtype=torch.int64).view(torch.uint8)
    fitting = content[:capacity]
    buffer[8 : 8 + fitting.numel()] = fitting
    buffer = buffer.to(device)
    everyone = [torch.empty_like(buffer) for _ in range(world_size())]
    dist.all_gather(everyone, buffer)
    return list(torch.stack(everyone).cpu())


def _size(buffer: Tensor) -> int:
    return int(buffer[:8].clone().view(torch.int64).item())


def anywhere(flag: Tensor) -> bool:
    """Return whether a scalar flag is set on any rank; waits for the device."""
    if world_size() == 1:
        return bool(flag)
    raised = flag.to(collective_device(), torch.int32)
    dist.all_reduce(raised, dist.ReduceOp.MAX)
    return bool(raised)
