"""Check on a GPU what the tests check on a CPU, and print a table: `python scripts/gpu_check.py`.

Then the suites of `scripts/benchmark.py` follow, on the GPU, unless `--suites` names fewer. On a machine without CUDA
it says what it would do and exits 0; `--device cpu` runs what a CPU can run of it, at small sizes.
"""

import argparse
import importlib
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from benchmarks import report
from benchmarks.cases import Setting
from benchmarks.runner import run
from table import TABLE

from lossframe import Loss, Objective, drain
from lossframe import losses as catalogue
from lossframe.callbacks.monitor.discovery import find_sources

STEPS = 100
SUITES = ("logging", "dense", "relational", "ranking")
Check = Callable[[torch.device], str]


def to(device: torch.device, inputs: dict[str, Tensor], dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """Move inputs to a device, floating ones also to a dtype; those require a gradient."""
    moved = {name: tensor.to(device, dtype if tensor.is_floating_point() else None) for name, tensor in inputs.items()}
    return {
        name: t.requires_grad_(t.is_floating_point() and name not in ("target", "image")) for name, t in moved.items()
    }


def evaluate(
    loss: Loss, inputs: dict[str, Tensor], autocast: torch.dtype | None = None
) -> tuple[Tensor, dict[str, Tensor | None]]:
    """Return the value, and the gradient by input."""
    with torch.autocast(next(iter(inputs.values())).device.type, autocast, enabled=autocast is not None):
        value = loss(**inputs)
    if value.requires_grad:
        value.backward()
    return value.detach(), {name: tensor.grad for name, tensor in inputs.items() if tensor.requires_grad}


def same_as_cpu(device: torch.device) -> str:
    """Every loss, value and gradient in float64, against the CPU."""
    worst = 0.0
    for loss_class, row in TABLE.items():
        inputs = row.inputs(32, torch.Generator().manual_seed(0))
        if not inputs:
            continue
        expected, gradients = evaluate(row.make(loss_class), to(torch.device("cpu"), inputs))
        found, on_device = evaluate(row.make(loss_class).to(device), to(device, inputs))
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-9, atol=1e-12, msg=loss_class.__name__)
        for name, gradient in gradients.items():
            if gradient is not None:
                torch.testing.assert_close(on_device[name].cpu(), gradient, rtol=1e-8, atol=1e-11)  # type: ignore[union-attr]
        worst = max(worst, float((found.cpu() - expected).abs() / expected.abs().clamp_min(1e-9)))
    return f"{len(TABLE)} losses, largest relative difference {worst:.0e}"


def half_precision(device: torch.device) -> str:
    """Every loss under autocast in float16 and bfloat16, on logits of +-1e4: finite."""
    for dtype in (torch.float16, torch.bfloat16):
        for loss_class, row in TABLE.items():
            inputs = row.inputs(16, torch.Generator().manual_seed(0))
            if not inputs:
                continue
            scaled = {
                name: 1e4 * t if name in ("logits", "embeddings", "features") else t for name, t in inputs.items()
            }
            loss = row.make(loss_class).float().to(device)
            value, gradients = evaluate(loss, to(device, scaled, torch.float32), dtype)
            finite = [value.isfinite().all(), *(g.isfinite().all() for g in gradients.values() if g is not None)]
            if not all(finite):
                raise AssertionError(f"{loss_class.__name__} is not finite under autocast {dtype}")
    return f"{2 * len(TABLE)} cases finite"


def objective(device: torch.device) -> tuple[Objective, Callable[[int], dict[str, Tensor]]]:
    """Return an objective of six terms, and what makes its frames on the device."""
    losses: dict[str, Loss] = {
        "triplet": catalogue.BatchAllTripletLoss(), "hard": catalogue.BatchHardTripletLoss(),
        "supcon": catalogue.SupConLoss(), "center": catalogue.CenterLoss(10, 64),
        "cross_entropy": catalogue.CrossEntropyLoss(), "decov": catalogue.DeCovLoss(),
    }  # fmt: skip
    built = Objective(losses, inputs={"cross_entropy": {"target": "labels"}}).to(device)

    def frame(n: int) -> dict[str, Tensor]:
        features = torch.randn(n, 64, device=device, requires_grad=True)
        labels = torch.randint(0, 10, (n,), device=device)
        return {"embeddings": features, "features": features, "logits": features[:, :10], "labels": labels}

    return built, frame


@contextmanager
def no_synchronisation(device: torch.device) -> Iterator[None]:
    """Make every host synchronisation on the GPU an error."""
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


def no_sync_between_drains(device: torch.device) -> str:
    """An objective of six terms for 100 steps, forward and backward, with every host synchronisation an error."""
    built, frame = objective(device)
    frames = [frame(256) for _ in range(STEPS)]
    for step in range(5):  # ranges are looked at in the first calls
        built(frames[step]).backward()
    with no_synchronisation(device):
        for inputs in frames:
            built(inputs).backward()
    start = time.perf_counter()
    drained = drain({name: source.recorder for name, source in find_sources(built).items()})
    return f"{STEPS} steps; the drain of {len(drained)} recorders took {1e3 * (time.perf_counter() - start):.1f} ms"


def compiled(device: torch.device) -> str:
    """The value computation of some losses under torch.compile(fullgraph=True)."""
    names = ("CrossEntropyLoss", "FocalLoss", "HuberLoss", "DiceLoss", "GaussianNLLLoss")
    for name in names:
        loss_class = getattr(catalogue, name)
        row = TABLE[loss_class]
        loss = row.make(loss_class).to(device)
        inputs = to(device, row.inputs(64, torch.Generator().manual_seed(0)))
        values = torch.compile(loss.loss, fullgraph=True)(**inputs)
        torch.testing.assert_close(values, loss.loss(**inputs))
    return f"{len(names)} losses"


def _rank(rank: int, world_size: int, backend: str, store: str, device: str) -> None:
    dist.init_process_group(backend, init_method=f"file://{store}", rank=rank, world_size=world_size)
    generator = torch.Generator().manual_seed(0)
    row = TABLE[catalogue.BatchAllTripletLoss]
    batch = row.inputs(9, generator)
    bounds = [9 * k // world_size for k in range(world_size + 1)]
    shard = {name: tensor[bounds[rank] : bounds[rank + 1]].to(device) for name, tensor in batch.items()}
    value = row.make(catalogue.BatchAllTripletLoss)(**shard)
    torch.save(value.cpu(), f"{store}.{rank}")
    dist.destroy_process_group()


def _ranks(world_size: int, backend: str, device: torch.device) -> str:
    row = TABLE[catalogue.BatchAllTripletLoss]
    expected = row.make(catalogue.BatchAllTripletLoss)(**row.inputs(9, torch.Generator().manual_seed(0)))
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_rank, (world_size, backend, f"{folder}/store", str(device)), nprocs=world_size)  # type: ignore[attr-defined]
        for rank in range(world_size):
            torch.testing.assert_close(torch.load(f"{folder}/store.{rank}"), expected, rtol=1e-10, atol=0)
    return f"{world_size} ranks over {backend}, equal to one process"


def nccl(device: torch.device) -> str:
    """NCCL with a single rank."""
    return _ranks(1, "nccl" if device.type == "cuda" else "gloo", device)


def shared_gpu(device: torch.device) -> str:
    """Three gloo ranks that share the GPU, uneven shards."""
    return _ranks(3, "gloo", device)


CHECKS: list[Check] = [same_as_cpu, half_precision, no_sync_between_drains, compiled, nccl, shared_gpu]


def benchmark(suite: str, device: torch.device) -> str:
    """Return the table of a suite of benchmarks, without the cases that have ranks or trainings of their own."""
    cases = importlib.import_module(f"benchmarks.{suite}").cases(quick=device.type == "cpu")
    chosen = (case for case in cases if "Trainer" not in case.name and case.name != "two ranks")
    measured = list(run(chosen, Setting(device.type, torch.get_num_threads(), repeats=5)))
    figures = [figure for case in measured for figure in case]
    return "\n".join([report.HEAD, *map(report.rows, measured), "", report.exponents(figures)]).rstrip()


def main() -> None:
    """Run every check and suite, and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument(
        "--suites", nargs="*", default=SUITES, choices=SUITES, help="the benchmarks to run, all if not given"
    )
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("No CUDA device here. On one, this script would check:")
        for check in CHECKS:
            print(f"- {check.__doc__}")
        print(f"- The time and memory of the suites {', '.join(options.suites)}.")
        return
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}\n\n| check | result |\n|---|---|")
    failed = [check for check in CHECKS if not passes(check, device)]
    for suite in options.suites:
        print(f"\n{suite}\n\n{benchmark(suite, device)}", flush=True)
    sys.exit(len(failed))


def passes(check: Check, device: torch.device) -> bool:
    """Run a check, print its row of the table, and return whether it passes."""
    try:
        result, passed = check(device), True
    except Exception:
        result, passed = "**failed**: " + traceback.format_exc().strip().splitlines()[-1], False
    print(f"| {check.__doc__} | {result} |", flush=True)
    return passed


if __name__ == "__main__":
    main()
