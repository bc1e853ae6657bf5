"""Runs set-ups of `LossMonitor` on one or two ranks, and compares what was written with the journals of all ranks."""

import io
import logging
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from monitor_comparison import Observed, compare, judge, of_all_ranks
from monitor_module import Caller, Entry, RecordingLogger
from monitor_oracle import POLICY, Oracle, Point
from monitor_setups import Setup, Sizes
from pool import Pool
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch.utils.data import DataLoader
from trainers import tiny_trainer

from lossframe import LossMonitor


class Run(NamedTuple):
    """What one training and the evaluations after it have left on one rank."""

    journal: list[Entry]
    points: list[Observed]


class Environment(LightningEnvironment):
    """Describes ranks that are running and joined already."""

    def __init__(self, rank: int, ranks: int) -> None:
        super().__init__()
        self.rank, self.ranks = rank, ranks

    @property
    def creates_processes_externally(self) -> bool:
        return True

    def world_size(self) -> int:
        return self.ranks

    def global_rank(self) -> int:
        return self.rank

    def local_rank(self) -> int:
        return self.rank

    def set_world_size(self, size: int) -> None:
        """Keep the number of ranks."""

    def set_global_rank(self, rank: int) -> None:
        """Keep the rank."""

    def teardown(self) -> None:
        """Leave the process group to those who have made it."""


class Observer(pl.Callback):
    """Journals the losses in `trainer.callback_metrics` at the end of each validation."""

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            observe(pl_module, "on_validation_end", "val", trainer.callback_metrics)


class Watcher(pl.callbacks.Checkpoint):
    """Journals the losses in `trainer.callback_metrics` when a checkpoint callback reads them."""

    on_validation_end = Observer.on_validation_end

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        observe(pl_module, "on_train_epoch_end", "train", trainer.callback_metrics)


def observe(module: Any, hook: str, stage: str, metrics: Any) -> None:
    """Journal the losses of a stage in a mapping of metrics."""
    prefix = f"{stage}/loss/"
    losses = {name.removeprefix(prefix): float(value) for name, value in metrics.items() if name.startswith(prefix)}
    module.journal.append(Entry(hook, "observed", metrics=losses))


class Saver(pl.Callback):
    """Saves a checkpoint at the n-th call of one hook, and journals where."""

    def __init__(self, hook: str, number: int, path: Path) -> None:
        self.left, self.path = number, path
        setattr(self, hook, lambda trainer, module, *_: self._save(hook, trainer, module))

    def _save(self, hook: str, trainer: Any, module: Any) -> None:
        self.left -= not trainer.sanity_checking
        if self.left == 0 and not trainer.sanity_checking:
            self.left = -1
            module.journal.append(Entry(hook, "saved"))
            trainer.save_checkpoint(self.path)


class LastSaver(Saver, pl.callbacks.Checkpoint):
    """Saves a checkpoint like `Saver`, but after all other callbacks."""


def loader(sizes: Sizes, rank: int) -> Any:
    """Return a dataloader with the batches of one rank."""
    batches: Any = [torch.ones(size, dtype=torch.float64) for size in sizes[rank]]
    return DataLoader(batches, batch_size=None)


def callbacks(setup: Setup, folder: Path) -> list[Any]:
    """Return the callbacks of a set-up, in order."""
    made = {
        "LossMonitor": lambda: LossMonitor(log_every=setup.log_every),
        "EarlyStopping": lambda: pl.callbacks.EarlyStopping("val/loss/first", patience=1000, strict=False),
        "ModelCheckpoint": lambda: pl.callbacks.ModelCheckpoint(folder / "models", every_n_train_steps=3),
        "Observer": Observer,
        "Saver": lambda: Saver(*(setup.saved or ("", 0)), folder / "saved.ckpt"),
        "LastSaver": lambda: LastSaver(*(setup.saved or ("", 0)), folder / "saved.ckpt"),
    }
    return [made[name]() if name in made else getattr(pl.callbacks, name)() for name in setup.callbacks] + [Watcher()]


def trained(rank: int, setup: Setup, folder: Path, kind: type[Caller] = Caller, checkpoint: Path | None = None) -> Run:
    """Train a set-up on one rank, from the start or from a checkpoint, and run the evaluations after it."""
    strategy = DDPStrategy(cluster_environment=Environment(rank, 2)) if setup.ranks == 2 else "auto"
    logger = RecordingLogger()
    trainer = tiny_trainer(
        folder, callbacks(setup, folder), logger=logger, devices=setup.ranks, strategy=strategy,
        use_distributed_sampler=False,
        **setup.trainer | {"enable_progress_bar": "TQDMProgressBar" in setup.callbacks},
    )  # fmt: skip
    module = kind(setup.calls, rank, setup.seed + bool(checkpoint), **setup.options)
    evaluated = [loader(sizes, rank) for sizes in setup.loaders]
    trainer.fit(module, loader(setup.train, rank), evaluated or None, ckpt_path=checkpoint)
    for method in setup.after:
        evaluate(trainer, module, method, evaluated)
    return Run(module.journal, logger.points)


def evaluate(trainer: Any, module: Caller, method: str, loaders: list[Any]) -> None:
    """Validate, test or predict, and journal the metrics that are returned."""
    results = getattr(trainer, method)(module, loaders) or []
    returned = {name: value for result in results for name, value in result.items()} if method != "predict" else {}
    if returned:
        observe(module, "returned", "val" if method == "validate" else "test", returned)


def runs(rank: int, setup: Setup, folder: Path, kind: type[Caller] = Caller) -> list[Run]:
    """Train a module of a class on one rank, and again from its checkpoint if it made one."""
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        first = trained(rank, setup, folder, kind)
        checkpoint = folder / "saved.ckpt"
        return [first, trained(rank, setup, folder, kind, checkpoint)] if checkpoint.exists() else [first]


def problems(setup: Setup, ranks: Sequence[Sequence[Run]], metrics: bool = True) -> list[str]:
    """Return how points, and `metrics` that callbacks and users read, differ from those that the journals demand."""
    found = []
    for number in range(len(ranks[0])):
        journals = [_journal(rank[: number + 1]) for rank in ranks]
        begin = _saved(journals[0]) if number else -1
        read = [Oracle(setup.log_every, POLICY, len(setup.loaders)).read(journal) for journal in journals]
        differences = compare(_points(read, begin), ranks[0][number].points, setup.options["log_quantiles"])
        for together in zip(*(each.checks for each in read), strict=True):
            differences += judge(together[0], together) if metrics and together[0].index > begin else []
        found += [f"{'resumed' if number else 'first'} training: {each}" for each in differences]
    return found


def _journal(trainings: Sequence[Run]) -> list[Entry]:
    """Return the journal of a training; that of a resumed one begins with the first until its checkpoint."""
    first, *later = (training.journal for training in trainings)
    begin = first[: _saved(first) + 1] if later else []
    return begin + [entry for entry in (later or [first])[0] if entry.stage != "saved"]


def _saved(journal: Sequence[Entry]) -> int:
    return next(index for index, entry in enumerate(journal) if entry.stage == "saved")


def _points(ranks: Sequence[Oracle], begin: int) -> list[Point]:
    """Return the points of all ranks after a checkpoint; one that the checkpoint completes is optional."""
    points = [of_all_ranks(each) for each in zip(*(rank.points for rank in ranks), strict=True)]
    for point in points:
        point.optional = point.closed == begin
    return [point for point in points if point.closed >= begin]


def outcome(setup: Setup, folder: Path, pool: Pool | None, metrics: bool = True) -> list[str]:
    """Run a set-up, on two ranks in the processes of a pool, and return what is wrong."""
    if setup.ranks == 1:
        ranks = [runs(0, setup, folder)]
    else:
        assert pool is not None
        ranks = pool.run(setup.ranks, runs, setup, folder)
    return problems(setup, ranks, metrics)
