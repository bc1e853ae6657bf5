"""Exchanges Python objects and flags between all ranks."""

import pickle
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from lossframe.distributed.group import collective_device, world_size

_HEAD = 8
"""Number of bytes that hold the length of a message."""


def exchange(message: object, capacity: int, device: torch.device) -> list[Any]:
    """Return the messages of all ranks on every rank, in rank order, with one collective.

    Every rank sends `capacity` bytes, whatever its message is, so that the shape of the collective is the same on all
    ranks. If a message does not fit, all ranks see its length and send again in a second collective. `capacity` must be
    the same on all ranks. Messages are pickles: ranks trust each other, as they do in torch's own collectives.
    """
    if world_size() == 1:
        return [message]
    content = pickle.dumps(message)
    everyone = _send(content, capacity, device)
    sizes = [int.from_bytes(buffer[:_HEAD].tobytes()) for buffer in everyone]
    if max(sizes) > capacity:
        everyone = _send(content, max(sizes), device)
    return [pickle.loads(buffer[_HEAD : _HEAD + size]) for buffer, size in zip(everyone, sizes, strict=True)]


def _send(content: bytes, capacity: int, device: torch.device) -> np.ndarray:
    """Return one row per rank: the length of its content, and as many bytes of the content as fit."""
    row = (len(content).to_bytes(_HEAD) + content[:capacity]).ljust(_HEAD + capacity, b"\0")
    mine = torch.frombuffer(bytearray(row), dtype=torch.uint8).to(device)
    everyone = mine.new_empty(world_size(), len(mine))
    dist.all_gather(list(everyone), mine)
    return everyone.cpu().numpy()


def anywhere(flag: Tensor) -> bool:
    """Return whether a scalar flag is set on any rank; waits for the device."""
    if world_size() == 1:
        return bool(flag)
    raised = flag.to(collective_device(), torch.int32)
    dist.all_reduce(raised, dist.ReduceOp.MAX)
    return bool(raised)
