"""Fits and tests one composed configuration in this process."""

import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from hydra.utils import instantiate
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import ModelCheckpoint
from rich.console import Console

from lossframe import distributed
from lossframe.callbacks.rank_consistency import RankConsistency
from lossframe.callbacks.unsaved import TolerantCheckpointIO
from lossframe.data import InMemoryData, shard_loaders
from lossframe.data.workers import naming_samples
from lossframe.loggers import tags
from lossframe.loggers.tolerance import tolerant
from lossframe.training import notes
from lossframe.training.checks import composed, model_contract, preflight, provision
from lossframe.training.configuration import composition
from lossframe.training.learner import Learner
from lossframe.training.monitored import MonitoredKeys
from lossframe.training.run_folder import checkpoints, run_dir

_COLUMN = 32  # characters before the numbers of the closing printout, if no name is longer
_NOISE = (
    "does not have many workers", "treespec, LeafSpec", "srun", "sync_dist=True", "logging interval",
    "directory .* exists and is not empty",  # of a resumed run
    "overrides the configure_model callback",  # of callbacks=ema; the Learner's shards for FSDP alone
    "could not find the monitored key",  # an error once something was validated
)  # fmt: skip


def run(config: DictConfig, records: Mapping[str, str] | None = None) -> float | None:
    """Fit a model, test its best checkpoint, and return the validation score that chose the checkpoint, if any.

    `config` is conf/train.yaml, composed; `config.run_dir` is the directory to write. `records`, path -> text, are
    written there once training starts: a run that fails before leaves the records of an earlier run as they are.
    """
    silence()
    config = composition.prepared(config)
    learner, data, callbacks = _prepare(config)
    values = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    if records:
        records = {**records, run_dir.RESOLVED: OmegaConf.to_yaml(config, resolve=True)}
    callbacks += [RankConsistency(values), MonitoredKeys(), _at_start(config.run_dir, records or {})]
    writer = TolerantCheckpointIO()
    trainer = _trainer(config, callbacks, writer)
    with naming_samples():
        with checkpoints.naming(Path(config.ckpt) if config.ckpt else None):
            trainer.fit(learner, data, ckpt_path=config.ckpt, weights_only=True)
        score = _test_best(trainer, learner, data, Path(config.run_dir))
    distributed.close()
    writer.check()
    return score


def check(config: DictConfig, load: bool) -> None:
    """Raise the errors of a configuration that show without training; `load` also loads the data."""
    silence()
    _, data, _ = _prepare(composition.prepared(config))
    if load and isinstance(data, InMemoryData):
        data.setup()
        data.train_dataloader()


def _prepare(config: DictConfig) -> tuple[Learner, Any, list[pl.Callback]]:
    """Seed, and make what is trained, its data and the callbacks, which must fit together.

    What the data says of itself, as the number of its classes, is filled into the configuration.
    """
    preflight.check_composition(config)
    composed.check_seed(config.seed)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data = preflight.data_of(config)
    shard_loaders(data, config.seed)
    pl.seed_everything(config.seed, workers=True, verbose=False)  # weights do not depend on what the data has drawn
    learner, callbacks = learner_of(config)
    preflight.check_entries(learner.objective, learner.metrics, data, learner.model, callbacks)
    return learner, data, callbacks


def silence() -> None:
    """Hide warnings and messages of Lightning that a configured run cannot avoid; show others in one line each."""
    warnings.formatwarning = _line
    for message in _NOISE:
        warnings.filterwarnings("ignore", message=f".*{message}.*")
    for package in ("pytorch_lightning", "lightning.pytorch"):  # the latter has the messages of both, once imported
        logging.getLogger(package).setLevel(logging.WARNING)


def _line(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    """Return what a command prints of a warning: its text; of one about the program itself also the place."""
    place = "" if issubclass(category, UserWarning) else f"{filename}:{lineno}: {category.__name__}: "
    return f"warning: {place}{' '.join(str(message).split())}\n"


def learner_of(config: DictConfig) -> tuple[Learner, list[pl.Callback]]:
    """Build the learner, whose model has the heads that losses, metrics and callbacks read, and the callbacks."""
    metrics = instantiate(config.metrics, _convert_="all")
    callbacks = list(instantiate(config.callbacks, _convert_="all").values())
    objective = provision.objective_of(config)
    provision.check_heads(config.model, objective, callbacks)
    read = [metric["reads"] for metric in metrics.values()] + [provision.reads_of(each) for each in callbacks]
    learner = Learner(
        model=model_contract.build(config.model, objective.reads.union(*read)),
        objective=objective,
        optimizer=instantiate(config.optimizer, _convert_="all"),
        scheduler=instantiate(config.scheduler, _convert_="all"),
        metrics=metrics,
    )
    return learner, callbacks


def _at_start(folder: str, records: Mapping[str, str]) -> pl.Callback:
    """Make the callback that shows notes when the checks are over, and writes records at a first gradient or the test.

    It does so on rank 0, once.
    """
    unwritten = dict(records)

    def write(trainer: pl.Trainer, *_: Any) -> None:
        if trainer.is_global_zero and unwritten:
            run_dir.write(Path(folder), unwritten)
            unwritten.clear()

    def show(*_: Any) -> None:
        notes.show()

    def start_test(trainer: pl.Trainer, *_: Any) -> None:
        notes.show()
        write(trainer)

    return pl.callbacks.LambdaCallback(on_train_start=show, on_after_backward=write, on_test_start=start_test)


def _trainer(config: DictConfig, callbacks: list[pl.Callback], writer: TolerantCheckpointIO) -> pl.Trainer:
    loggers = [tolerant(logger) for logger in instantiate(config.logger, _convert_="all").values()]
    if not config.trainer.enable_progress_bar:
        callbacks = [callback for callback in callbacks if not isinstance(callback, pl.callbacks.ProgressBar)]
    plugins = [writer, *_cluster()]
    trainer: pl.Trainer = instantiate(config.trainer, logger=loggers, callbacks=callbacks, plugins=plugins)
    return trainer


def _cluster() -> list[SLURMEnvironment]:
    """Return Lightning's environment of SLURM without its handler of signals, which saves and requeues by itself."""
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


def _test_best(trainer: pl.Trainer, learner: Learner, data: Any, folder: Path) -> float | None:
    """Test the best checkpoint, or the last weights if none was chosen, and return the checkpoint's score."""
    best: Any = next((each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)), None)
    path = None if best is None else best.best_model_path or None  # none before the first validation
    score = None if best is None or best.best_model_score is None else float(best.best_model_score)
    if path is None:
        _average(trainer, learner)
    elif Path(path).exists():
        checkpoints.contents(Path(path))
    trainer.test(learner, data, ckpt_path=path, verbose=False, weights_only=True)
    if trainer.is_global_zero:
        numbers = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("test/")}
        if score is not None and best.monitor:
            numbers[best.monitor] = score
        _report(folder, numbers, path, "" if best is None or not best.monitor else f"{best.monitor}, {best.mode}")
    return score


def _average(trainer: pl.Trainer, learner: Learner) -> None:
    """Give the learner its averaged weights, if any, which a resumed training that was finished has not."""
    callbacks: list[Any] = getattr(trainer, "callbacks")  # noqa: B009 - Lightning's stubs do not know it
    for callback in callbacks:
        if getattr(callback, "_average_model", None) is not None:
            callback._copy_average_to_current(learner)


def _report(folder: Path, numbers: Mapping[str, float], checkpoint: str | None, chosen_by: str) -> None:
    """Write metrics.json, and print the test metrics and where the run's files are."""
    write_metrics(folder / "metrics.json", numbers, checkpoint)
    console = print_metrics({name: value for name, value in numbers.items() if name.startswith("test/")})
    best = run_dir.as_typed(checkpoint) if checkpoint else "none; the last weights were tested"
    console.print(f"best checkpoint  {best}", markup=False)
    if checkpoint and chosen_by:
        console.print(f"chosen by        {chosen_by}", markup=False)
    console.print(f"curves           tensorboard --logdir {run_dir.as_typed(folder)}", markup=False)


def write_metrics(path: Path, numbers: Mapping[str, float], checkpoint: str | None) -> None:
    """Write the metrics of a checkpoint as JSON."""
    path.write_text(json.dumps({**numbers, "checkpoint": checkpoint}, indent=2) + "\n")


def print_metrics(numbers: Mapping[str, float]) -> Console:
    """Print metrics and means of losses, one a line, and return the console."""
    console = Console(soft_wrap=True, highlight=False)
    shown = [name for name in tags.means(numbers) if f"/{tags.SHARE}/" not in name]
    width = max([_COLUMN, *map(len, shown)])
    for name in shown:
        console.print(f"{name:<{width}} {numbers[name]:.4f}", markup=False)
    return console
