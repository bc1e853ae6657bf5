"""Write docs/conformance.md, the losses of other libraries in `NativeLoss`: `python scripts/conformance_table.py`."""

import datetime
import multiprocessing
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parent))
from conformance import dense, measure, metric_learning, torch_nn
from conformance.case import Case, N

PAGE = Path(__file__).parents[1] / "docs" / "conformance.md"
TIMEOUT = datetime.timedelta(seconds=20)
LIBRARIES = {
    "torch.nn": ("torch", lambda: torch_nn.CASES),
    "pytorch-metric-learning": ("pytorch-metric-learning", lambda: metric_learning.CASES),
    "MONAI": ("monai", lambda: dense.cases("monai", "monai.losses", dense.MONAI)),
    "kornia": ("kornia", lambda: dense.cases("kornia", "kornia.losses", dense.KORNIA)),
    "segmentation-models-pytorch": (
        "segmentation-models-pytorch",
        lambda: dense.cases(
            "segmentation_models_pytorch", "segmentation_models_pytorch.losses", dense.SEGMENTATION_MODELS
        ),
    ),
    "timm": ("timm", lambda: dense.cases("timm", "timm.loss", dense.TIMM)),
}
HEAD = """# Losses of other libraries

What `NativeLoss` makes of the losses of other libraries, measured by `python scripts/conformance_table.py`, in float64:

- **equal**: value and gradients, by the inputs and by the loss's own parameters, are those of the library, called
  directly on one process.
- **statistics**: whether std, minimum and maximum are those of samples or elements, or of batch means.
- **2 ranks**: value, and gradients as data parallelism averages them, of shards of 9 and 3 samples are those of one
  process.
"""
ROW = "| loss | options | equal | statistics | 2 ranks |\n|---|---|---|---|---|"


def serve(rank: int, library: str, folder: str) -> None:
    """Save this rank's results for all cases of a library; each case has a group of its own, which it may break."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    found = []
    for k, case in enumerate(LIBRARIES[library][1]()):
        dist.init_process_group(
            "gloo", init_method=f"file://{folder}/store{k}", rank=rank, world_size=len(measure.SHARDS), timeout=TIMEOUT
        )
        found.append(measure.on_rank(rank, case))
        dist.destroy_process_group()
    torch.save(found, f"{folder}/{rank}")


def on_ranks(library: str) -> list[list[Any]]:
    """Return the results of each rank."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        ranks = range(len(measure.SHARDS))
        processes = [context.Process(target=serve, args=(rank, library, folder)) for rank in ranks]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        return [torch.load(f"{folder}/{rank}", weights_only=False) for rank in ranks]


def row(case: Case, ranks: list[Any]) -> tuple[str, bool]:
    """Return a row of the table, and whether all that it says is yes."""
    own = measure.own(case)
    alone = measure.wrapped(case, slice(N))
    equal = measure.same(own, alone)
    errors = [each for each in ranks if isinstance(each, str)]
    spread = errors[0] if errors else ""
    on_two = not errors and measure.same(alone, measure.together(case, ranks))
    recorded = not errors and all(abs(each.mean - alone.mean) <= 1e-6 * max(1, abs(alone.mean)) for each in ranks)
    options = ", ".join(f"`{k}={v}`" for k, v in case.options.items())
    statistics = "sample" if alone.per_sample else f"batch: {case.note}" if case.note else "batch"
    yes = "yes" if on_two and recorded else spread or "no"
    return f"| `{case.name}` | {options} | {'yes' if equal else 'no'} | {statistics} | {yes} |", equal and yes == "yes"


def section(library: str) -> str:
    """Return the heading and table of a library."""
    package, cases = LIBRARIES[library]
    rows = [row(case, list(each)) for case, *each in zip(cases(), *on_ranks(library), strict=True)]
    conform = sum(good for _, good in rows)
    title = f"## {library} {version(package)}: {conform} of {len(rows)} conform"
    return "\n".join([title.replace("+cpu", ""), "", ROW, *(text for text, _ in rows)])


def main() -> None:
    """Write the page."""
    warnings.simplefilter("ignore")
    chosen = [name for name, (_, cases) in LIBRARIES.items() if cases()]
    PAGE.write_text("\n\n".join([HEAD.strip(), *map(section, chosen)]) + "\n")


if __name__ == "__main__":
    main()
