"""Losses over all pairs or triplets need memory for some anchors at a time, not for all pairs."""

import resource
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
from forked import context

from lossframe import losses

N, MEGABYTE = 4096, 1024  # a single matrix of all pairs is 64 MB; without blocks, there are several


def peak(name: str, classes: int) -> float:
    """Return the memory in MB that a forward and backward pass needs beyond its inputs and gradients."""

    def run(n: int) -> float:
        x, y = torch.randn(n, 128, requires_grad=True), torch.arange(n) % classes
        x.grad = torch.zeros_like(x)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        getattr(losses, name)()(x, y).backward()
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / MEGABYTE

    run(64)  # loads what torch loads at the first call
    return run(N)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [8, N // 16])
@pytest.mark.parametrize(
    ("name", "limit"), [("BatchAllTripletLoss", 64), ("ContrastiveLoss", 100), ("NTXentLoss", 64), ("SupConLoss", 64)]
)
def test_peak_memory_of_a_large_batch_stays_below_its_limit(name: str, limit: float, classes: int) -> None:
    with ProcessPoolExecutor(1, context) as process:
        assert process.submit(peak, name, classes).result() < limit
