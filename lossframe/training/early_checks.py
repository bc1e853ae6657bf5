"""Checks a run, or every job of a sweep, in the moment before Hydra makes its folder."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from lossframe.training import composed
from lossframe.training.user_errors import Refused, explain


class EarlyChecks(Callback):
    """Refuses a configuration that cannot train: a run's by its values, a sweep's jobs also by their objects.

    Hydra calls a callback before it makes the run's folder, and passes over its exceptions, but not over `Refused`.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the one run."""
        _refuse(config, composed.check)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the jobs: the values of all before the objects of all, which need torch."""
        jobs: list[tuple[str, DictConfig]] = []
        _refuse(config, lambda config: jobs.extend(_jobs(config)))
        for name, job in jobs:
            _refuse(job, composed.check, name)
        from lossframe.training.run import check

        for index, (name, job) in enumerate(jobs):
            _refuse(job, partial(_check_objects, check, load=index == 0), name)


def _refuse(config: DictConfig, check: Callable[[DictConfig], None], job: str = "") -> None:
    """Make the error of a check one that Hydra lets pass; a defect of the program shows again when the run starts."""
    HydraConfig.instance().set_config(config)  # as Hydra does a moment later: checks try further choices
    try:
        check(config)
    except Exception as error:
        if message := explain(error, config):
            raise Refused(f"{job}{message}") from error


def _check_objects(check: Callable[..., None], config: DictConfig, load: bool) -> None:
    """Check the objects of a configuration as it is without Hydra's own part, perhaps with its data."""
    check(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]), load=load)


def _jobs(config: DictConfig) -> Iterator[tuple[str, DictConfig]]:
    """Compose the jobs of a sweep over choices, each with its name for messages; none of another sweeper's."""
    if not config.hydra.sweeper._target_.endswith(".BasicSweeper"):
        return
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    loader = GlobalHydra.instance().config_loader()
    swept = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    overrides = OverridesParser.create(config_loader=loader).parse_overrides([*swept, *config.hydra.overrides.task])
    (jobs,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    common = set(jobs[0]).intersection(*jobs)
    for number, job in enumerate(jobs):
        own = " ".join(each for each in job if each not in common)
        name = f"job {number} of {len(jobs)} ({own}): " if own else ""
        yield name, loader.load_sweep_config(config, list(job))
