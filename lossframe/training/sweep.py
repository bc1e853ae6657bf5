"""Checks what a sweep's sweeper and launcher want of its jobs, records jobs that fail, and prints the summary."""

import math
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from lossframe.errors import InputError
from lossframe.report.endings import FAILED
from lossframe.training import launch
from lossframe.training.run_folder import run_dir

_DIRECTIONS = {"min": "minimize", "max": "maximize"}
"""The direction of a sweeper that optimises a metric of each mode of `checkpoint_monitor`."""


def check(config: DictConfig) -> None:
    """Raise an `InputError` if a job's score or ranks are not what the sweeper optimises or the launcher starts."""
    sweeper, monitor = config.hydra.sweeper, config.checkpoint_monitor
    if "direction" in sweeper:
        given = sweeper.direction if OmegaConf.is_list(sweeper.direction) else [sweeper.direction]
        found = [getattr(each, "name", each) for each in given]
        wanted = _DIRECTIONS.get(monitor.mode)
        if wanted and found != [wanted]:
            raise InputError(
                f"hydra.sweeper.direction={','.join(found)}: wanted {wanted}, because checkpoint_monitor says that "
                f"{monitor.metric} has the mode {monitor.mode}; add hydra.sweeper.direction={wanted}"
            )
    _check_tasks(config.hydra.launcher, config.trainer)


def check_folder(folder: Path) -> None:
    """Raise an `InputError` if a sweep's folder holds runs already, over which its jobs would stumble one by one."""
    if found := sorted(path.parent.name for path in folder.glob(f"*/{run_dir.RESOLVED}")):
        raise InputError(
            f"hydra.sweep.dir={folder}: wanted a folder without runs, found {len(found)}, as {found[0]}; choose "
            "another folder. A study with hydra.sweeper.storage goes on in it"
        )


def check_monitors(jobs: list[DictConfig]) -> None:
    """Raise an `InputError` if a sweeper that compares scores would compare those of different metrics."""
    monitors = list(dict.fromkeys(str(job.checkpoint_monitor.metric) for job in jobs))
    if len(monitors) > 1:
        raise InputError(
            f"checkpoint_monitor.metric: wanted one metric for all jobs, found {' and '.join(monitors)}; add "
            f"checkpoint_monitor.metric={monitors[0]}"
        )


def checked(score: float | None, config: DictConfig) -> float | None:
    """Return the score of a run; raise an `InputError` if the sweeper that chose the run cannot use it."""
    hydra_config = HydraConfig.get()
    if hydra_config.mode != RunMode.MULTIRUN or "direction" not in hydra_config.sweeper:
        return score
    metric = config.checkpoint_monitor.metric
    if score is None:
        raise InputError(f"the sweep optimises {metric}, but callbacks.checkpoint has none; add callbacks=default")
    if math.isnan(score):
        raise InputError(f"the sweep optimises {metric}, which is NaN at every validation")
    return score


def record_failure(folder: Path, message: str) -> None:
    """Write into the folder of a job why it failed, and the overrides by which the summary knows it."""
    if launch.is_first():
        overrides = [each for each in HydraConfig.get().overrides.task if not each.startswith("run_dir=")]
        run_dir.write(folder, {FAILED: f"{message}\n", ".hydra/overrides.yaml": OmegaConf.to_yaml(overrides)})


def close(error: Exception | None = None) -> None:
    """Print the summary of the sweep that has ended, if the command was one.

    With the error that ended it, raise an `InputError` if no job was without failure: sweepers want one at least.
    """
    hydra_config: Any = HydraConfig.instance().cfg
    if hydra_config is None or hydra_config.hydra.mode != RunMode.MULTIRUN or not launch.is_first():
        return
    from lossframe.report.summary import show, summary

    folder = Path(hydra_config.hydra.sweep.dir)
    if found := summary([folder]):
        show(found)
        print(f"report           lossframe report {run_dir.as_typed(folder)}", flush=True)
    failed = sorted(folder.glob(f"*/{FAILED}"))
    if error and failed and len(failed) == len(list(folder.glob("*/.hydra/overrides.yaml"))):
        raise InputError(f"all {len(failed)} jobs failed; the first: {failed[0].read_text('utf-8').strip()}") from error


def _check_tasks(launcher: DictConfig, trainer: DictConfig) -> None:
    """Raise an `InputError` if submitit would start other tasks than the ranks of a job."""
    target = str(launcher._target_)
    tasks, nodes = launcher.get("tasks_per_node", 1), launcher.get("nodes", 1)
    if target.endswith("LocalLauncher") and (tasks, nodes) != (1, 1):
        raise InputError(
            f"hydra.launcher.tasks_per_node={tasks}: wanted 1 of submitit_local, whose tasks do not know each other; "
            "a job starts its ranks itself, as by trainer=ddp_cpu trainer.devices=2"
        )
    if not target.endswith("SlurmLauncher"):
        return
    if nodes != trainer.num_nodes:
        raise InputError(
            f"hydra.launcher.nodes={nodes}: wanted as many as trainer.num_nodes={trainer.num_nodes}; set both alike"
        )
    devices = str(trainer.devices)
    if devices.isdigit() and str(tasks) != devices and (tasks != 1 or nodes > 1):
        raise InputError(
            f"hydra.launcher.tasks_per_node={tasks}: wanted as many as trainer.devices={devices}; set both alike"
        )
