"""Trainings that go on from a checkpoint whose content somebody has changed."""

import contextlib
import csv
import io
import os
import shutil
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf

from fuzzing import damage
from fuzzing.chance import Chance
from fuzzing.commands import composed as composed_of
from fuzzing.endings import FailureError, ending
from lossframe.training import run
from lossframe.training.configuration import composition
from lossframe.training.run_folder import checkpoints

RUNS = (
    "loss=[triplet,center] balance=running_mean callbacks=[default,early_stopping,hard_samples] scheduler=step",
    "loss=cross_entropy metrics=classification callbacks=[default,ema] optimizer=sgd optimizer.momentum=0.9 "
    "+schedule.cross_entropy={kind:linear,start:0.5,end:1,until:100,unit:samples}",
)
SHORT = (
    "data.batch_size=16 trainer.limit_train_batches=2 trainer.limit_val_batches=1 logger=csv log_every=1 "
    "trainer.limit_test_batches=1 trainer.num_sanity_val_steps=0"
)
_TIMED = "samples_per_second"


class Run(NamedTuple):
    """The files of a run of one epoch, path -> content, and how the second epoch ends: weights and rows."""

    config: DictConfig
    files: dict[str, bytes]
    weights: dict[str, Any]
    rows: list[dict[str, str]]


def _config(options: str, epochs: int) -> DictConfig:
    config = composed_of([*options.split(), *SHORT.split(), f"trainer.max_epochs={epochs}"])
    return composition.prepared(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))


def train(config: DictConfig) -> None:
    """Train, from the checkpoint that a configuration names, and print nothing."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if config.ckpt:
            config.ckpt = checkpoints.chosen(config, Path(config.run_dir))
        run.run(config)


def _end() -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Return the weights and the rows of the run in the present folder."""
    state = torch.load("run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    with Path("run/csv/metrics.csv").open(newline="") as file:
        rows = [{name: cell for name, cell in row.items() if _TIMED not in name} for row in csv.DictReader(file)]
    return state, rows


@cache
def trained(options: str) -> Run:
    """Train a run for an epoch, keep its files, and go on for another."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            train(_config(options, 1))
            files = {str(file): file.read_bytes() for file in Path("run").rglob("*") if file.is_file()}
            config = _config(options, 2)
            config.ckpt = "run/checkpoints/last.ckpt"
            train(config.copy())
            return Run(config, files, *_end())
        finally:
            os.chdir(before)


def case(chance: Chance, folder: Path) -> str:
    """Go on from a checkpoint with a changed part: as without the change, or with a warning, or not at all."""
    made = trained(chance.choose(*RUNS))
    content = made.files["run/checkpoints/last.ckpt"]
    state = torch.load(io.BytesIO(content), weights_only=True)
    changed, title = damage.of_state(state, chance)
    before = Path.cwd()
    os.chdir(folder)
    try:
        shutil.rmtree("run", ignore_errors=True)
        for name, each in made.files.items():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_bytes(each)
        torch.save(changed, "run/checkpoints/last.ckpt")
        try:
            return ending(lambda: _resume(made))
        except FailureError as error:
            raise FailureError(f"{title}: {error}") from error
    finally:
        os.chdir(before)


def _resume(made: Run) -> None:
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        run.silence()
        train(made.config.copy())
    weights, rows = _end()
    differ = [name for name, each in made.weights.items() if not _same(each, weights[name])]
    if noted:
        return
    if differ:
        raise FailureError(f"went on without a word to other weights {differ[:3]}")
    if rows != made.rows:
        raise FailureError("went on without a word to other rows")


def _same(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)
