"""The command `evaluate`: tests a checkpoint of a run again, on the run's data or on other data."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from lossframe import distributed
from lossframe.data import InMemoryData
from lossframe.data.workers import naming_samples
from lossframe.training import launch, run
from lossframe.training.checks.user_errors import explained
from lossframe.training.loaded_run import ON_ONE_CPU, LoadedRun
from lossframe.training.run_folder import checkpoints, recorded, run_dir


def evaluate(
    folder: Path, overrides: Sequence[str], checkpoint: str = "best", split: str = "test", out: Path | None = None
) -> None:
    """Print the metrics of a run's checkpoint on a split, and write them to `out` as JSON."""

    def work(loaded: LoadedRun, trainer: pl.Trainer) -> None:
        data = loaded.new_data()
        numbers = loaded.measure(trainer, data, split)
        if trainer.is_global_zero:
            if line := seen_in_training(loaded, data, split):
                print(f"warning: {line}", file=sys.stderr)
            console = run.print_metrics(numbers)
            console.print(f"checkpoint       {run_dir.as_typed(loaded.checkpoint)}", markup=False)
            if out is not None:
                run.write_metrics(out, numbers, str(loaded.checkpoint.absolute()))
                console.print(f"metrics          {run_dir.as_typed(out)}", markup=False)

    with naming_samples(), explained():
        on_all_ranks(folder, overrides, checkpoint, work)


def on_all_ranks(
    folder: Path, overrides: Sequence[str], checkpoint: str, work: Callable[[LoadedRun, pl.Trainer], None],
    *callbacks: pl.Callback, **options: Any,
) -> None:  # fmt: skip
    """Load a run on each rank that `overrides` ask for, and do some work there with a trainer of these ranks.

    Without overrides the configuration is the recorded one, on one CPU.
    """
    run.silence()
    file = recorded.checkpoint_file(folder, checkpoint)
    config, data = recorded.configuration(folder), None
    if overrides:
        config, data = recorded.recomposed(folder, overrides, checkpoints.contents(file))
    place = {} if overrides else ON_ONE_CPU
    options = {key: value for key, value in options.items() if not _is_given(f"trainer.{key}", overrides)}
    ranks = launch.number_of_devices(config.trainer.accelerator, config.trainer.devices) if overrides else 1
    with launch.local_ranks(ranks, {}, sys.argv[1:]), explained(config):
        loaded = LoadedRun(folder, config, file, data)
        if launch.is_first() and (line := recorded.of_another_kind(config)):
            print(f"warning: {line}", file=sys.stderr)
        work(loaded, loaded.trainer(*callbacks, **place, **options))
        distributed.close()


def seen_in_training(loaded: LoadedRun, data: Any, split: str) -> str | None:
    """Return a line that says so, if a split may hold samples that the run was trained on; None if it cannot."""
    now, before = loaded.config["data"], recorded.configuration(loaded.folder).data
    changed = {key for key in now.keys() | before.keys() if now.get(key) != before.get(key)}
    state = loaded.state.get(type(data).__qualname__)
    if isinstance(data, InMemoryData) and state:
        possible = not data.is_whole and data.state_dict()["splits"] != state["splits"]
    else:
        possible = bool(changed) and "_target_" not in changed
    if not possible:
        return None
    return f"{split}: the samples are split otherwise than in training, so that the run may have been trained on some"


def _is_given(key: str, overrides: Sequence[str]) -> bool:
    return any(each.lstrip("+").startswith(f"{key}=") for each in overrides)
