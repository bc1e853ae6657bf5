"""The command `train`: composes a configuration by Hydra, starts the ranks of this machine, and runs the training."""

import os
import sys
import time
from pathlib import Path
from typing import cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

import lossframe.training.run_folder.hydra_defaults  # noqa: F401 - registers what conf/ reads
from lossframe import configs
from lossframe.errors import InputError
from lossframe.report.endings import FAILED
from lossframe.training import launch, notes, orphans, sweep
from lossframe.training.checks.user_errors import Refused, explain
from lossframe.training.configuration import composition, data_facts, project
from lossframe.training.configuration.arguments import UsageError, normalised
from lossframe.training.run_folder import checkpoints, resume, run_dir

RANK_CONFIG = "LOSSFRAME_RANK_CONFIG"
"""The environment variable by which rank 0 hands its configuration, as YAML, to the ranks that it starts."""

os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # idle threads sleep after 0.1 ms; see docs/performance.md


def main(arguments: list[str]) -> None:
    """Train as command line arguments say; exit with one line if the input is wrong, with status 2 if it is no command.

    Other errors, and with HYDRA_FULL_ERROR=1 all errors, end in a traceback.
    """
    traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        if RANK_CONFIG in os.environ:
            orphans.end_with_launcher()
            _run(cast(DictConfig, OmegaConf.create(os.environ[RANK_CONFIG])), {})
        else:
            notes.clear()
            sys.argv[1:] = project.primary(resume.expand(resume.entered(normalised(arguments))))  # Hydra reads sys.argv
            _train_or_sweep()
    except (Exception, Refused) as error:
        message = str(error) if isinstance(error, Refused) else explain(error)
        if traceback or message is None:
            raise
        if RANK_CONFIG in os.environ:
            time.sleep(3)  # rank 0 mostly has the same to say, and ends this process
        if isinstance(error, UsageError):
            print(f"error: {message}", file=sys.stderr)
            sys.exit(2)
        sys.exit(f"error: {message}")


def _train_or_sweep() -> None:
    try:
        _train()
    except Exception as error:
        sweep.close(error)
        raise
    sweep.close()


@hydra.main(version_base="1.3", config_path=str(configs.root()), config_name="train")
def _train(config: DictConfig) -> float | None:
    """Train one composed configuration on all ranks of this machine, and return the score that a sweep optimises."""
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    fresh = run_dir.is_fresh(folder)
    try:
        config = composition.prepared(config)
        _place(config, folder, Path(hydra_config.runtime.cwd))
        return sweep.checked(_train_in(folder, config), config)
    except Exception as error:
        message = explain(error, config)
        single = hydra_config.mode == RunMode.RUN
        if fresh and not single:
            sweep.record_failure(folder, message or f"{type(error).__name__}: {error}")
        if message is None:
            raise
        if fresh and single and launch.is_first():
            run_dir.discard(folder, Path(hydra_config.runtime.cwd))
        raise (Refused if single else InputError)(message) from error  # a sweep goes on with its other jobs


def _place(config: DictConfig, folder: Path, started_in: Path) -> None:
    """Set the run's directory; paths that were typed are relative to where the command was started."""
    if config.ckpt and config.run_dir and started_in / config.run_dir != folder:
        raise InputError(
            f"run_dir={config.run_dir}: wanted {folder}, where the run of ckpt={config.ckpt} goes on; leave run_dir out"
        )
    config.run_dir = str(folder)
    if Path.cwd() != started_in:  # hydra.job.chdir=true
        for key in ("ckpt", *resume.PATHS):
            if typed := OmegaConf.select(config, key):
                OmegaConf.update(config, key, str(started_in / typed))


def _train_in(folder: Path, config: DictConfig) -> float | None:
    """Train in a run's folder; a job that SLURM has requeued goes on with the run that it has begun there."""
    launch.meet_again()
    if not config.ckpt and launch.is_restarted() and run_dir.holds_run(folder):
        config.ckpt = str(folder)
    if launch.is_of_sweep_elsewhere(HydraConfig.get()):
        launch.check_devices(config.trainer.accelerator, config.trainer.devices)
    ranks = launch.number_of_devices(config.trainer.accelerator, config.trainer.devices)
    with run_dir.locked(folder, resume=bool(config.ckpt)):
        if config.ckpt:
            config.ckpt = checkpoints.chosen(config, folder)
        records = _records(config)
        with launch.local_ranks(ranks, {RANK_CONFIG: data_facts.for_ranks(config)}):
            (folder / FAILED).unlink(missing_ok=True)
            return _run(config, records)


def _run(config: DictConfig, records: dict[str, str]) -> float | None:
    from lossframe.training.run import run  # torch takes seconds: a wrong configuration is refused without it

    return run(config, records)


def _records(config: DictConfig) -> dict[str, str]:
    """Return the files that let a run be read, repeated and resumed: path in its directory -> text."""
    hydra_config = HydraConfig.get()
    overrides = [each for each in hydra_config.overrides.task if not each.startswith("run_dir=")]
    repeatable = config.copy()
    repeatable.ckpt = repeatable.run_dir = None  # a repetition starts from new weights, in a directory of its own
    return {
        run_dir.RESOLVED: OmegaConf.to_yaml(config, resolve=True),
        resume.OVERRIDES: OmegaConf.to_yaml([*resume.config_flags(), *overrides]),
        ".hydra/config.yaml": OmegaConf.to_yaml(repeatable),
        ".hydra/hydra.yaml": OmegaConf.to_yaml({"hydra": hydra_config}),
        ".hydra/overrides.yaml": OmegaConf.to_yaml(overrides),
    }
