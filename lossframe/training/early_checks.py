"""Checks a run, or every job of a sweep, in the moment before Hydra makes its folder."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from lossframe.errors import InputError
from lossframe.training import sweep
from lossframe.training.checks import composed
from lossframe.training.checks.user_errors import Refused, explain
from lossframe.training.run_folder import checkpoints


class EarlyChecks(Callback):
    """Refuses a configuration that cannot train: a run's by its values, a sweep's jobs also by their objects.

    Hydra calls a callback before it makes the run's folder, and passes over its exceptions, but not over `Refused`.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the one run."""
        _refuse(config, _check_values)
        _refuse(config, _check_single)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the jobs: the values of all before the objects of all, which need torch."""
        jobs: list[tuple[str, DictConfig]] = []
        _refuse(config, lambda config: jobs.extend(_jobs(config)))
        for name, job in jobs:
            _refuse(job, _check_values, name)
            _refuse(job, sweep.check)
        if "direction" in config.hydra.sweeper:
            _refuse(config, lambda _: sweep.check_monitors([job for _, job in jobs]))
        _refuse(config, lambda config: sweep.check_folder(Path(config.hydra.sweep.dir)))
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


def _check_values(config: DictConfig) -> None:
    """Check the values of a configuration, and the form of the checkpoint from which it goes on."""
    composed.check(config)
    checkpoints.check_form(Path(config.ckpt or ""))


def _check_objects(check: Callable[..., None], config: DictConfig, load: bool) -> None:
    """Check the objects of a configuration as it is without Hydra's own part, perhaps with its data."""
    check(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]), load=load)


def _check_single(config: DictConfig) -> None:
    """Raise an `InputError` if a run that is no job of a sweep, nor goes on from one, would be compared with others."""
    targets = [str(each.get("_target_")) for each in config.callbacks.values() if each]
    if not config.ckpt and any(target.endswith(".pruning.Pruning") for target in targets):
        raise InputError("callbacks=pruning: wanted the jobs of a sweep, found one run; add -m, or leave pruning out")


def _jobs(config: DictConfig) -> Iterator[tuple[str, DictConfig]]:
    """Compose the jobs of a sweep over choices, each with its name for messages, or samples of another sweeper's jobs.

    The samples have each value of each swept key, and both ends of an interval.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    loader = GlobalHydra.instance().config_loader()
    sweeper = config.hydra.sweeper
    swept = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    overrides = OverridesParser.create(config_loader=loader).parse_overrides([*swept, *config.hydra.overrides.task])
    if grid := sweeper._target_.endswith(".BasicSweeper"):
        (jobs,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    else:
        jobs = _samples(overrides)
    common = set(jobs[0]).intersection(*jobs)
    for number, job in enumerate(jobs):
        own = " ".join(each for each in job if each not in common)
        name = f"job {number} of {len(jobs)} ({own}): " if grid else f"a job with {own}: "
        yield name if own else "", loader.load_sweep_config(config, list(job))


def _samples(overrides: Sequence[Override]) -> list[list[str]]:
    """Return overrides of jobs that try the values of each swept key in turn, beside the first ones of the others."""
    values = [[f"{each.get_key_element()}={value}" for value in _values(each)] for each in overrides]
    first = [each[0] for each in values]
    others = [[*first[:k], value, *first[k + 1 :]] for k, each in enumerate(values) for value in each[1:]]
    return [first, *others]


def _values(override: Override) -> list[str]:
    """Return the values of an override; of an interval its ends, the upper end without the end itself."""
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    if override.is_discrete_sweep():
        return list(override.sweep_string_iterator())
    ends = cast(IntervalSweep, override.value())
    low, high = cast(float, ends.start), cast(float, ends.end)
    whole = isinstance(low, int) and isinstance(high, int)
    return [str(low), str(high if whole else high - (high - low) / 1000)]
