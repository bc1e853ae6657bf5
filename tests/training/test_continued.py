"""A training that continues with other options has the learning rates that these options give, epoch by epoch."""

import math
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from curves import read
from omegaconf import DictConfig
from torch import nn
from torch.optim import lr_scheduler
from trainers import tiny_trainer

from lossframe import InputError
from lossframe.data import Diabetes
from lossframe.losses import MSELoss
from lossframe.models import Mlp
from lossframe.objectives.objective import Objective
from lossframe.training.learner import Learner
from lossframe.training.reconfigured import described
from lossframe.training.run import run

Configure = Callable[..., DictConfig]
EPOCHS = 2
ADAM = partial(torch.optim.Adam, lr=1e-3)
COSINE = partial(lr_scheduler.CosineAnnealingLR, T_max=EPOCHS)


class Groups(pl.Callback):
    """Records the options of the optimiser in each epoch."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the options of the only group of parameters."""
        (group,) = trainer.optimizers[0].param_groups
        self.seen.append({name: value for name, value in group.items() if name != "params"})


def learner(optimizer: Any, scheduler: Any) -> Learner:
    torch.manual_seed(0)
    return Learner(Mlp(10, 1, hidden=4, heads=["prediction"]), Objective({"mse": MSELoss()}), optimizer, scheduler)


def fit(folder: Path, optimizer: Any, scheduler: Any, epochs: int, checkpoint: Path | None = None) -> Any:
    """Fit, and return the options in each epoch and the learner."""
    groups, module = Groups(), learner(optimizer, scheduler)
    trainer = tiny_trainer(folder, [groups], logger=False, max_epochs=epochs, enable_checkpointing=False)
    trainer.fit(module, datamodule=Diabetes(batch_size=64), ckpt_path=checkpoint)
    trainer.save_checkpoint(folder / "last.ckpt")
    return groups.seen, module


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints after two epochs of Adam, with and without a scheduler."""
    folder = tmp_path_factory.mktemp("run")
    for name, scheduler in (("constant", None), ("cosine", COSINE)):
        fit(folder / name, ADAM, scheduler, EPOCHS)
    return {name: folder / name / "last.ckpt" for name in ("constant", "cosine")}


OPTIMIZERS = {
    "lr": partial(torch.optim.Adam, lr=1e-4),
    "betas": partial(torch.optim.Adam, betas=(0.5, 0.9)),
    "weight_decay": partial(torch.optim.Adam, weight_decay=0.1),
    "amsgrad": partial(torch.optim.Adam, amsgrad=True),
    "centered": partial(torch.optim.RMSprop, centered=True, momentum=0.9),
    "momentum": partial(torch.optim.SGD, lr=0.01, momentum=0.9),
    **{
        name: getattr(torch.optim, name)
        for name in ("AdamW", "Adadelta", "Adagrad", "Adamax", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD")
    },
}
SCHEDULERS = {
    "none": None,
    "longer": partial(lr_scheduler.CosineAnnealingLR, T_max=2 * EPOCHS),
    "eta_min": partial(lr_scheduler.CosineAnnealingLR, T_max=EPOCHS, eta_min=1e-4),
    "step": partial(lr_scheduler.StepLR, step_size=1, gamma=0.5),
    "steps": partial(lr_scheduler.MultiStepLR, milestones=[1, 3]),
    "exponential": partial(lr_scheduler.ExponentialLR, gamma=0.9),
    "lambda": partial(lr_scheduler.LambdaLR, lr_lambda=lambda epoch: 1 / (1 + epoch)),
    "one cycle": partial(lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=2 * EPOCHS),
}
STATE = {"Adam", "AdamW", "RAdam"}
"""Optimisers that accumulate under the names of Adam."""


@pytest.mark.parametrize(
    ("name", "earlier"),
    [*((name, "cosine") for name in OPTIMIZERS), *product(SCHEDULERS, ["constant", "cosine"])],
)
@pytest.mark.filterwarnings("ignore:.*starts with nothing accumulated")
def test_continued_run_has_the_options_of_a_run_started_with_them(
    checkpoints: dict[str, Path], tmp_path: Path, name: str, earlier: str
) -> None:
    optimizer = OPTIMIZERS.get(name, ADAM)
    scheduler = SCHEDULERS.get(name, None if earlier == "constant" else COSINE)
    wanted, _ = fit(tmp_path / "whole", optimizer, scheduler, EPOCHS + 2)
    found, module = fit(tmp_path / "continued", optimizer, scheduler, EPOCHS + 2, checkpoints[earlier])
    assert [group["lr"] for group in found] == [group["lr"] for group in wanted[EPOCHS:]]
    without = {"initial_lr"} if scheduler is None else set()
    assert [{k: v for k, v in group.items() if k not in without} for group in found] == wanted[EPOCHS:]
    steps = [int(numbers["step"]) for numbers in module.optimizers().state.values() if "step" in numbers]
    keeps = getattr(optimizer, "func", optimizer).__name__ in STATE and name != "amsgrad"
    assert set(steps) <= {5 * (4 if keeps else 2)}


def test_unchanged_options_restore_what_a_callback_has_changed(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    state = torch.load(checkpoints["constant"], weights_only=True)
    state["optimizer_states"][0]["param_groups"][0]["lr"] = 0.5
    torch.save(state, tmp_path / "changed.ckpt")
    found, _ = fit(tmp_path, partial(torch.optim.Adam, lr=1e-3), None, EPOCHS + 1, tmp_path / "changed.ckpt")
    assert [group["lr"] for group in found] == [0.5]


def test_another_optimizer_warns_that_it_starts_anew(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="SGD starts with nothing accumulated: .* leave out the new optimizer"):
        fit(tmp_path, partial(torch.optim.SGD, lr=0.1, momentum=0.9), None, EPOCHS + 1, checkpoints["constant"])


def test_schedule_that_is_over_is_an_input_error(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    over = partial(lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=1)
    with pytest.raises(InputError, match=r"^scheduler: Tried to step 2 times\. .* total steps is 1"):
        fit(tmp_path, ADAM, over, EPOCHS + 1, checkpoints["constant"])


def test_description_of_a_factory_is_the_same_in_every_process() -> None:
    factory = partial(lr_scheduler.LambdaLR, lr_lambda=[math.sqrt, nn.ReLU()], last_epoch=torch.tensor(-1))
    wanted = ["torch.optim.lr_scheduler.LambdaLR", [], {"lr_lambda": ["sqrt", "ReLU"], "last_epoch": -1}]
    assert described(factory) == wanted
    assert described(None) is None


DATA = {"data.seed": 2, "data.val_fraction": 0.2, "data.test_fraction": 0.2, "seed": 2}


def test_other_options_of_a_run_hold_and_another_split_is_refused(configure: Configure, tmp_path: Path) -> None:
    base = ["experiment=diabetes", "loss=mse", "scheduler=cosine", "trainer.max_epochs=2", "data.seed=1"]
    run(configure(*base))
    on = [*base, f"ckpt={tmp_path}/checkpoints/last.ckpt", "trainer.max_epochs=4"]
    for key, value in DATA.items():
        if key == "seed":
            on[4] = "data.seed=${seed}"
        with pytest.raises(InputError, match=r"data\.\w+=[\d.]+ for [\d.]+: .* add data\.\w+=[\d.]+, or train anew"):
            run(configure(*on, f"{key}={value}"))
    run(configure(*on, "seed=2", "data.seed=1", "optimizer.lr=0.5"))
    rates = dict(read(tmp_path / "train")["lr"])
    assert list(rates.values())[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 3 / 4)) / 2)
