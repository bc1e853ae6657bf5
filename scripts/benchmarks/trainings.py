"""The same small training, with several ways to log its terms."""

import itertools
import logging
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Semaphore
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from benchmarks.cases import Step
from lossframe import LossMonitor
from lossframe.callbacks.images import HardSamples
from lossframe.losses import MSELoss

SAMPLES, FEATURES = 256, 32
STEPS = 50
"""How many steps of a training have a turn: those between two drains, and one drain."""


class Terms(pl.LightningModule):
    """So many losses on one small network; `log` shows their values."""

    def __init__(
        self, terms: int, log: Callable[[pl.LightningModule, str, Tensor], None] | None, **options: Any
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(FEATURES, 64), nn.ReLU(), nn.Linear(64, 1))
        self.losses = nn.ModuleList([MSELoss(**options) for _ in range(terms)])
        self.show = log

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Return the sum of the terms."""
        prediction = self.layers(batch).squeeze(1)
        values = [loss(prediction, batch[:, k % FEATURES]) for k, loss in enumerate(self.losses)]
        if self.show is not None:
            for k, value in enumerate(values):
                self.show(self, f"loss/{k}", value)
        return torch.stack(values).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return plain gradient descent."""
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def on_step(module: pl.LightningModule, name: str, value: Tensor) -> None:
    """Log each step's value."""
    module.log(name, value, on_step=True, on_epoch=False)


def on_epoch(module: pl.LightningModule, name: str, value: Tensor) -> None:
    """Log the epoch's mean."""
    module.log(name, value, on_step=False, on_epoch=True)


def on_both(module: pl.LightningModule, name: str, value: Tensor) -> None:
    """Log both."""
    module.log(name, value, on_step=True, on_epoch=True)


SHOWN = {"log_std": True, "log_min": True, "log_max": True}
Maker = Callable[[int], tuple[Terms, list[pl.Callback]]]
MAKERS: dict[str, Maker] = {
    "lossframe": lambda terms: (Terms(terms, None, **SHOWN), [LossMonitor()]),
    "the curves alone": lambda terms: (Terms(terms, None, **SHOWN), [_monitor()]),
    "nothing logged": lambda terms: (Terms(terms, None, record=False), []),
    "self.log(on_step)": lambda terms: (Terms(terms, on_step, record=False), []),
}
OTHERS: dict[str, Maker] = {
    "lossframe with quantiles": lambda terms: (Terms(terms, None, log_quantiles=True, **SHOWN), [LossMonitor()]),
    "nothing logged": MAKERS["nothing logged"],
    "self.log(on_epoch)": lambda terms: (Terms(terms, on_epoch, record=False), []),
    "self.log(both)": lambda terms: (Terms(terms, on_both, record=False), []),
}
PARTS: dict[str, Maker] = {
    "the curves alone": MAKERS["the curves alone"],
    "nothing logged": MAKERS["nothing logged"],
    "+ quantiles": lambda terms: (Terms(terms, None, log_quantiles=True, **SHOWN), [_monitor()]),
    "+ nonfinite=raise": lambda terms: (Terms(terms, None, **SHOWN), [_monitor(nonfinite="raise")]),
    "+ nonfinite=skip": lambda terms: (Terms(terms, None, **SHOWN), [_monitor(nonfinite="skip")]),
    "+ spikes": lambda terms: (Terms(terms, None, **SHOWN), [_monitor(spikes=10.0)]),
    "+ hard samples": lambda terms: (Terms(terms, None, **SHOWN), [_monitor(), HardSamples()]),
}


def _monitor(nonfinite: str = "off", spikes: float | None = None) -> LossMonitor:
    return LossMonitor(nonfinite=nonfinite, spikes=spikes)


class _Turns(pl.Callback):
    """Holds a training before every 50 steps, until it may go on."""

    def __init__(self) -> None:
        self.go, self.held = Semaphore(0), Semaphore(0)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx % STEPS == 0:
            self.held.release()
            self.go.acquire()


def training(size: int, device: torch.device, kind: str, folder: str) -> Step:
    """Start a training with so many terms, which logs into a folder; a step is its next 50 steps."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    batches = [torch.randn(SAMPLES, FEATURES) for _ in range(STEPS)]
    module, callbacks = (MAKERS | OTHERS | PARTS)[kind](size)
    turns = _Turns()
    trainer = pl.Trainer(
        max_epochs=1, accelerator="gpu" if device.type == "cuda" else "cpu", devices=1, callbacks=[*callbacks, turns],
        logger=pl.loggers.TensorBoardLogger(folder, name=kind, version=f"{size}"), default_root_dir=Path(folder),
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    alike = {"initializer": torch.set_num_threads, "initargs": (torch.get_num_threads(),)}  # each thread has its own
    fitted = ThreadPoolExecutor(1, **alike).submit(trainer.fit, module, itertools.cycle(batches))

    def wait() -> None:
        while not turns.held.acquire(timeout=1.0):
            if fitted.done():  # it failed, for the batches never end
                fitted.result()

    def step() -> None:
        turns.go.release()
        wait()

    wait()
    return step
