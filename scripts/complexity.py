"""Time and peak memory of the losses that look at all pairs, as their input grows: python scripts/complexity.py.

Each measurement, forward and backward on one thread, is a process of its own; memory is what it needs beyond its
inputs. The last lines fit `size ** exponent`. Takes about a minute.
"""

import math
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
from torch import Tensor

from lossframe import Loss, losses

REPEATS = 3
Inputs = dict[str, Tensor]


def embedded(size: int) -> Inputs:
    """Give 128 features, 16 samples a class."""
    return {"embeddings": torch.randn(size, 128), "labels": torch.arange(size) // 16}


def large_classes(size: int) -> Inputs:
    """Give 128 features, 8 classes."""
    return {"embeddings": torch.randn(size, 128), "labels": torch.arange(size) % 8}


def views(size: int) -> Inputs:
    """Give two views of each sample, of 128 features."""
    return {"embeddings": torch.randn(size, 128), "labels": torch.arange(size) // 2}


def wide(size: int) -> Inputs:
    """Give 64 samples of many features."""
    return {"features": torch.randn(64, size)}


def long(size: int) -> Inputs:
    """Give 4 samples of many elements."""
    return {"prediction": torch.randn(4, size), "target": torch.randn(4, size)}


def scored(size: int) -> Inputs:
    """Give many scores."""
    return {"scores": torch.randn(size), "target": torch.randint(0, 2, (size,))}


QUADRATIC = [1024, 2048, 4096]
LINEAR = [2**14, 2**16, 2**18]
CASES: dict[str, tuple[type[Loss], Callable[[int], Inputs], list[int]]] = {
    "MeanPairwiseSquaredErrorLoss, elements": (losses.MeanPairwiseSquaredErrorLoss, long, LINEAR),
    "DeCovLoss, features": (losses.DeCovLoss, wide, LINEAR),
    "ROCAUCLoss, scores": (losses.ROCAUCLoss, scored, LINEAR),
    "BatchAllTripletLoss, 16 a class": (losses.BatchAllTripletLoss, embedded, QUADRATIC),
    "BatchAllTripletLoss, 8 classes": (losses.BatchAllTripletLoss, large_classes, QUADRATIC),
    "NTXentLoss, samples": (losses.NTXentLoss, views, QUADRATIC),
    "SupConLoss, samples": (losses.SupConLoss, embedded, QUADRATIC),
}


def measure(case: str, size: int) -> tuple[float, float]:
    """Return the shortest CPU time in ms, and the peak of memory in MB."""
    loss, make, _ = CASES[case]
    torch.set_num_threads(1)
    torch.manual_seed(0)

    def run(inputs: Inputs) -> float:
        started = time.process_time()
        loss()(**inputs).backward()
        return 1e3 * (time.process_time() - started)

    def prepare(size: int) -> Inputs:
        first, *others = make(size).items()
        return {first[0]: first[1].requires_grad_(), **dict(others)}

    run(prepare(16))  # loads what torch loads at the first call
    inputs = prepare(size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took = min(run(inputs) for _ in range(REPEATS))
    return took, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def exponent(sizes: list[int], figures: list[float]) -> float:
    """Fit the slope of the figures over the sizes, both in logarithms."""
    x, y = [math.log(size) for size in sizes], [math.log(max(figure, 1e-3)) for figure in figures]
    x_mean, y_mean = sum(x) / len(x), sum(y) / len(y)
    rise = sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True))
    return rise / sum((a - x_mean) ** 2 for a in x)


def main() -> None:
    """Print every measurement and the fits."""
    fits = []
    print(f"{'':42}{'size':>8}{'ms':>10}{'MB':>8}")
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes:
        for case, (_, _, sizes) in CASES.items():
            figures = [processes.submit(measure, case, size).result() for size in sizes]
            for size, (took, memory) in zip(sizes, figures, strict=True):
                print(f"{case:42}{size:8}{took:10.1f}{memory:8.1f}", flush=True)
            fits.append((case, *(exponent(sizes, list(figure)) for figure in zip(*figures, strict=True))))
    print(f"\n{'exponents':42}{'':8}{'time':>10}{'memory':>8}")
    for case, of_time, of_memory in fits:
        print(f"{case:42}{'':8}{of_time:10.2f}{of_memory:8.2f}")


if __name__ == "__main__":
    main()
