"""Composes the configuration of the running command again, with further overrides, to try what an error proposes."""

from collections.abc import Iterable

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict


def is_command() -> bool:
    """Return whether Hydra runs a command in this process, whose overrides are known."""
    return HydraConfig.initialized() and GlobalHydra.instance().is_initialized()


def choices(group: str) -> list[str]:
    """Return the choices of a group, with those of the command's own directories; none without a command."""
    if not is_command():
        return []
    found: list[str] = GlobalHydra.instance().config_loader().get_group_options(group)
    return found


def composed(overrides: Iterable[str], after_own: bool = True) -> DictConfig:
    """Compose the command's configuration with overrides after the command's own, or without these.

    The last override of a key or a group holds. Hydra's own section is left out.
    """
    config = _loaded(overrides, after_own)
    with open_dict(config):
        config.pop("hydra")
    return config


def is_typed(group: str) -> bool:
    """Return whether the command itself chooses from a group."""
    return any(override.lstrip("+").startswith(f"{group}=") for override in HydraConfig.get().overrides.task)


def choice(group: str) -> str | None:
    """Return the choice that the command makes of a group, itself or by its configuration."""
    made: str | None = HydraConfig.get().runtime.choices.get(group)
    return made


def default(group: str) -> str | None:
    """Return the choice of a group that the command's configuration makes without any override."""
    made: str | None = _loaded([], after_own=False).hydra.runtime.choices.get(group)
    return made


def choice_of(experiment: str, group: str) -> str | None:
    """Return the choice that an experiment makes of a group."""
    made: str | None = _loaded([f"experiment={experiment}"], after_own=False).hydra.runtime.choices.get(group)
    return made


def _loaded(overrides: Iterable[str], after_own: bool) -> DictConfig:
    command = HydraConfig.get()
    own = command.overrides.task if after_own else []
    loader = GlobalHydra.instance().config_loader()
    given = [*command.overrides.hydra, *own, *overrides]
    return loader.load_configuration(command.job.config_name, given, RunMode.RUN)
