"""Trains a tiny model for many steps, and shows what grows: memory, open files, files on disk, the time of a step.

`python scripts/soak.py --steps 200000` prints a table of the first and the last tenth of the steps. The losses are ten
terms with quantiles, the loggers TensorBoard and CSV.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lossframe import LossMonitor, losses
from lossframe.loggers.csv import ResumableCSVLogger
from lossframe.loggers.tensorboard import LazyTensorBoardLogger

TERMS, SAMPLES, EPOCH, EVERY = 10, 64, 2000, 50
"""Terms, samples of a batch, batches of an epoch, and batches between two points of a curve."""
Figures = dict[str, float]


class Module(pl.LightningModule):
    """Trains one layer on ten terms, which differ by their weights alone."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)
        self.terms = nn.ModuleDict({f"term{k}": losses.MSELoss(log_quantiles=True) for k in range(TERMS)})

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the weighted sum of the terms."""
        inputs, targets = batch
        outputs = self.layer(inputs)
        parts = [term(outputs, targets) / (1 + k) for k, term in enumerate(self.terms.values())]
        return torch.stack(parts).sum()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Evaluate the terms."""
        self.training_step(batch, batch_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return plain gradient descent."""
        return torch.optim.SGD(self.parameters(), lr=1e-3)


class Gauge(pl.Callback):
    """Measures this process and its files a hundred times, evenly over the training."""

    def __init__(self, steps: int, folder: Path) -> None:
        self.every = max(1, steps // 100)
        self.folder = folder
        self.found: list[Figures] = []
        self._since = 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Measure after every hundredth part of the steps."""
        if trainer.global_step % self.every == 1 or self.every == 1:
            self._since = time.perf_counter()
        if trainer.global_step % self.every == 0:
            seconds = time.perf_counter() - self._since
            self.found.append({"ms per step": 1000 * seconds / max(1, self.every - 1), **measured(self.folder)})


def measured(folder: Path) -> Figures:
    """Return the memory and the open files of this process, and the size of its files."""
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    events = sum(path.stat().st_size for path in folder.rglob("events.out.*"))
    rows = sum(path.stat().st_size for path in folder.rglob("metrics.csv"))
    return {
        "resident memory, MB": resident / 1e6,
        "open files": len(list(Path("/proc/self/fd").iterdir())),
        "event files, MB": events / 1e6,
        "CSV file, MB": rows / 1e6,
    }


def train(steps: int, folder: Path) -> list[Figures]:
    """Train for so many steps, and return the figures in order."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    batches = [(torch.randn(SAMPLES, 4), torch.randn(SAMPLES, 1)) for _ in range(8)]
    gauge = Gauge(steps, folder)
    trainer = pl.Trainer(
        max_steps=steps, accelerator="cpu", callbacks=[LossMonitor(log_every=EVERY), gauge],
        logger=[LazyTensorBoardLogger(folder, name="", version=""), ResumableCSVLogger(folder, name="", version="csv")],
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, log_every_n_steps=EVERY,
    )  # fmt: skip
    length = min(EPOCH, steps)
    loaders = (DataLoader([batches[k % 8] for k in range(n)], batch_size=None) for n in (length, 2))  # type: ignore[arg-type]
    trainer.fit(Module(), *loaders)
    return gauge.found


def table(found: list[Figures]) -> str:
    """Return the medians of the first and the last tenth in Markdown."""
    tenth = max(1, len(found) // 10)
    lines = ["| | first tenth | last tenth |", "|---|---|---|"]
    for name in found[0]:
        first, last = (statistics.median(each[name] for each in part) for part in (found[:tenth], found[-tenth:]))
        lines.append(f"| {name} | {first:.3f} | {last:.3f} |")
    return "\n".join(lines)


def main() -> None:
    """Train in a temporary folder, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        started = time.perf_counter()
        found = train(options.steps, Path(name))
        print(f"{options.steps} steps in {time.perf_counter() - started:.0f} s\n\n{table(found)}")


if __name__ == "__main__":
    main()
