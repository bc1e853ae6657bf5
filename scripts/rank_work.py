"""Time anchor losses, forward and backward, on 1 and 2 ranks with one thread each: `python scripts/rank_work.py`."""

import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lossframe import Loss
from lossframe.losses import BatchAllTripletLoss, BatchHardTripletLoss, SupConLoss

SAMPLES, FEATURES, PER_CLASS, REPEATS = 4096, 128, 16, 5
LOSSES: list[type[Loss]] = [BatchAllTripletLoss, BatchHardTripletLoss, SupConLoss]


def measure(rank: int, world_size: int, folder: str) -> None:
    """Write this rank's median seconds a call, for each loss."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store{world_size}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world_size)
    mine = slice(rank, None, world_size)
    embeddings = torch.randn(SAMPLES, FEATURES, generator=torch.Generator().manual_seed(0))[mine].requires_grad_()
    labels = (torch.arange(SAMPLES) // PER_CLASS)[mine]
    lines = []
    for loss_class in LOSSES:
        criterion, seconds = loss_class(), []
        for _ in range(REPEATS + 1):
            dist.barrier()
            start = time.perf_counter()
            criterion(embeddings, labels).backward()
            seconds.append(time.perf_counter() - start)
        lines.append(f"{statistics.median(seconds[1:])}\n")
    Path(folder, f"{world_size}-{rank}").write_text("".join(lines))
    dist.destroy_process_group()


def main() -> None:
    """Print a Markdown table with the ratio."""
    with tempfile.TemporaryDirectory() as folder:
        times = {}
        for ranks in (1, 2):
            mp.spawn(measure, (ranks, folder), nprocs=ranks)  # type: ignore[attr-defined]
            times[ranks] = [float(line) for line in Path(folder, f"{ranks}-0").read_text().split()]
    print(f"N={SAMPLES}, D={FEATURES}, {PER_CLASS} a class; median of {REPEATS} calls, one thread a rank\n")
    print("| loss | 1 rank | 2 ranks | ratio |\n|---|---|---|---|")
    for loss_class, one, two in zip(LOSSES, times[1], times[2], strict=True):
        print(f"| {loss_class.__name__} | {one:.2f} s | {two:.2f} s | {two / one:.2f} |")


if __name__ == "__main__":
    main()
