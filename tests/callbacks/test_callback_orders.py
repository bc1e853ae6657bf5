"""Every callback of Lightning before and after `LossMonitor`, on two ranks: no deadlock, and equal curves."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from monitor_module import RecordingLogger
from monitor_runs import Environment
from pool import Pool
from pytorch_lightning import callbacks as lightning
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric
from trainers import tiny_trainer

from lossframe import LossMonitor
from lossframe.losses import MSELoss

LIMIT = 20
"""Half of the seconds after which two ranks count as deadlocked."""
SIZES = [[4, 4, 3], [4, 2, 4]]
"""Number of samples of each batch on each rank."""
EPOCHS = 4


class PredictionWriter(lightning.BasePredictionWriter):
    """Writes no predictions."""


class Averaging(lightning.WeightAveraging):
    """Averages the weights of every step."""


ABSTRACT = {"Callback", "Checkpoint", "ProgressBar", "BaseFinetuning"}
ALONE = {"BatchSizeFinder", "LearningRateFinder"}
"""Callbacks that Lightning refuses or does not support on several ranks."""
QUICK = {"EarlyStopping", "ModelCheckpoint", "RichProgressBar", "StochasticWeightAveraging", "TQDMProgressBar"}
"""Callbacks that are tried in the quick tests too, because they read metrics or change the loop."""
CALLBACKS: dict[str, Any] = {
    "BackboneFinetuning": partial(lightning.BackboneFinetuning, unfreeze_backbone_at_epoch=2),
    "BasePredictionWriter": PredictionWriter,
    "BatchSizeFinder": partial(lightning.BatchSizeFinder, max_trials=1, steps_per_trial=2),
    "DeviceStatsMonitor": partial(lightning.DeviceStatsMonitor, cpu_stats=False),
    "EarlyStopping": partial(lightning.EarlyStopping, "val/loss/mse", patience=100),
    "GradientAccumulationScheduler": partial(lightning.GradientAccumulationScheduler, {1: 2}),
    "LambdaCallback": partial(lightning.LambdaCallback, on_validation_end=lambda trainer, _: trainer.callback_metrics),
    "LearningRateFinder": partial(lightning.LearningRateFinder, num_training_steps=4),
    "LearningRateMonitor": lightning.LearningRateMonitor,
    "ModelCheckpoint": partial(lightning.ModelCheckpoint, monitor="val/loss/mse", every_n_epochs=1),
    "ModelPruning": partial(lightning.ModelPruning, "l1_unstructured", amount=0.25),
    "ModelSummary": lightning.ModelSummary,
    "OnExceptionCheckpoint": partial(lightning.OnExceptionCheckpoint, "unused"),
    "RichModelSummary": lightning.RichModelSummary,
    "RichProgressBar": lightning.RichProgressBar,
    "SpikeDetection": partial(lightning.SpikeDetection, mode="min", warmup=100),
    "StochasticWeightAveraging": partial(lightning.StochasticWeightAveraging, 0.01, swa_epoch_start=2),
    "TQDMProgressBar": lightning.TQDMProgressBar,
    "ThroughputMonitor": partial(lightning.ThroughputMonitor, len, window_size=2),
    "Timer": lightning.Timer,
    "EMAWeightAveraging": lightning.EMAWeightAveraging,
    "WeightAveraging": Averaging,
}

RANKS = sorted(CALLBACKS.keys() - ALONE)


class Regressor(pl.LightningModule):
    """Logs a torchmetrics object that is synchronised over the ranks when somebody first reads it."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank
        self.batch_size, self.lr = 4, 0.01
        self.backbone = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
        self.head = torch.nn.Linear(3, 1)
        self.criterion = MSELoss(log_std=True)
        self.metrics = torch.nn.ModuleDict({stage: MeanMetric() for stage in ("of_train", "of_val")})

    def loss(self, batch: Tensor, stage: str) -> Tensor:
        prediction = self.head(self.backbone(batch))
        self.metrics[stage].update(prediction)
        self.log(stage, self.metrics[stage], on_step=False, on_epoch=True, prog_bar=True)
        return self.criterion(prediction, batch.sum(1, keepdim=True))

    def training_step(self, batch: Tensor, batch_idx: int) -> dict[str, Tensor]:
        return {"loss": self.loss(batch, "of_train")}

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.loss(batch, "of_val")

    def configure_optimizers(self) -> Any:
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return torch.optim.SGD(trained, lr=self.lr)

    def train_dataloader(self) -> Any:
        generator = torch.Generator().manual_seed(self.rank)
        batches: Any = [torch.randn(size, 3, generator=generator) for size in SIZES[self.rank]]
        return DataLoader(batches, batch_size=None) if self.batch_size else None

    val_dataloader = train_dataloader


def curves(rank: int, ranks: int, name: str, first: bool, folder: Path) -> list[Any]:
    """Train with a callback before or after the monitor, and return the points of all curves."""
    torch.manual_seed(0)
    callbacks, logger = [LossMonitor(log_every=2), CALLBACKS[name]()], RecordingLogger()
    options = {"enable_progress_bar": "ProgressBar" in name, "enable_model_summary": "ModelSummary" in name}
    strategy = DDPStrategy(cluster_environment=Environment(rank, ranks)) if ranks > 1 else "auto"
    trainer = tiny_trainer(
        folder, callbacks[::-1] if first else callbacks, max_epochs=EPOCHS, logger=logger, devices=ranks,
        strategy=strategy, use_distributed_sampler=False, **options,
    )  # fmt: skip
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
        trainer.fit(Regressor(rank))
    return logger.points


def ready(rank: int) -> None:
    """Import what the ranks need, which may take longer than a training."""


def started() -> Pool:
    """Return two ranks that are ready to train."""
    pool = Pool(2)
    pool.run(2, ready)
    return pool


@pytest.fixture(scope="module")
def ranks() -> Iterator[list[Pool]]:
    """Return a list of one pool of two ranks, which `run` replaces after a deadlock."""
    pools = [started()]
    yield pools
    pools[0].close()


def run(pools: list[Pool], name: str, first: bool, folder: Path) -> Any:
    """Train on two ranks, and kill them if they do not answer."""
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pool.TIMEOUT", LIMIT)
            return pools[0].run(2, curves, 2, name, first, folder)[0]
    except AssertionError as error:
        if "did not answer" in str(error):
            for process in pools[0].processes:
                process.kill()
            pools[0] = started()
        pytest.fail(f"{name} {'before' if first else 'after'} LossMonitor: {error}")


def numbers(points: list[Any], stage: str) -> list[Any]:
    """Return x and the curves of each point of a stage."""
    return [(x, pytest.approx(losses, rel=1e-6)) for kind, x, losses in points if kind == stage]


def test_table_lists_every_callback_of_lightning() -> None:
    assert set(lightning.__all__) == CALLBACKS.keys() | ABSTRACT


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=() if each in QUICK else pytest.mark.slow) for each in RANKS]
)
def test_order_of_callbacks_changes_no_curve(name: str, ranks: list[Pool], tmp_path: Path) -> None:
    before, after = (run(ranks, name, first, tmp_path / str(first)) for first in (True, False))
    samples = sum(map(sum, SIZES))
    for stage in ("train", "val"):
        steps = [x for kind, x, _ in before if kind == stage]
        assert steps[-1] == EPOCHS * samples
        assert [(x, losses) for kind, x, losses in after if kind == stage] == numbers(before, stage)


@pytest.mark.parametrize("name", sorted(ALONE))
def test_order_of_callbacks_changes_no_curve_on_one_rank(name: str, tmp_path: Path) -> None:
    before, after = (curves(0, 1, name, first, tmp_path / str(first)) for first in (True, False))
    for stage in ("train", "val"):
        assert [x for kind, x, _ in before if kind == stage][-1] == EPOCHS * sum(SIZES[0])
        assert [(x, losses) for kind, x, losses in after if kind == stage] == numbers(before, stage)
