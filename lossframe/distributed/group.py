"""Describes, configures and closes the process group of a training."""

import os

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard


def world_size() -> int:
    """Return the number of ranks; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the rank of this process; 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def collective_device() -> torch.device:
    """Return the device on which this process group's collectives run."""
    if world_size() > 1 and "nccl" in dist.get_backend():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def first_rank_says(topic: str, message: str) -> str:
    """Return the message of rank 0 on a topic on every rank, before torchrun's ranks have a process group."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(host, port, is_master=False)
    key = f"lossframe/{topic}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    if os.environ["RANK"] == "0":
        store.set(key, message)
    said: bytes = store.get(key)
    return said.decode()


def shard(module: nn.Module, mesh: DeviceMesh) -> None:
    """Shard the parameters of a module over the ranks of a mesh, child by child (FSDP2)."""
    for child in module.children():
        if next(child.parameters(), None) is not None:
            fully_shard(child, mesh=mesh)
    fully_shard(module, mesh=mesh)


def close() -> None:
    """Destroy the process group, if there is one, so that another can be started."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
