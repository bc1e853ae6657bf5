"""Checks a composed configuration by what conf/ says, before torch is imported and before a folder is made."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, InterpolationResolutionError

from lossframe import configs
from lossframe.errors import InputError
from lossframe.training import checkpoints, composition, launch, sweep

_SEVERAL = ("logger", "callbacks", "metrics")
"""Groups of which several choices may be made, apart from `loss`."""
_OF_OTHER_KINDS = ("trainer.devices", "trainer.deterministic", "trainer.val_check_interval")
"""Keys that take other kinds of values than their default is of."""
_ABSENT = object()
_LEAST = {
    "trainer.accumulate_grad_batches": 1,
    "trainer.check_val_every_n_epoch": 1,
    "trainer.val_check_interval": 1e-9,
    "trainer.gradient_clip_val": 0,
    "trainer.max_epochs": -1,
    "trainer.min_epochs": 0,
    "scheduler.step_size": 1,
    "scheduler.T_max": 1,
}
"""The least numbers of keys whose range Lightning and torch do not check, though most of them divide by it."""
_NEVER_NULL = re.compile(r"seed|log_every|weights\..*")


def check(config: DictConfig) -> None:
    """Raise an `InputError` if a value is missing or of another kind than its default, or ranks cannot be started."""
    config = composition.prepared(config)
    if not config.loss:
        raise InputError("loss=[]: wanted at least one loss, found none; choose one, as in loss=triplet")
    if missing := [key for key, value in _unresolved(config) if value == "???"]:
        typed = " ".join(f"{key}=VALUE" for key in missing)
        raise InputError(f"{', '.join(missing)}: wanted a value, found none; add {typed}")
    values = {str(key): _resolved(config, str(key)) for key in config if key != "hydra"}
    for key, default in shipped(config):
        _check_kind(key, default, values)
    for key, least in _LEAST.items():
        found = _at(values, key)
        if isinstance(found, int | float) and found < least:
            raise InputError(f"{key}={found}: wanted {'more than 0' if 0 < least < 1 else f'{least} or more'}")
    checkpoints.check_form(Path(values["ckpt"] or ""))
    trainer = values["trainer"]
    if re.search("spawn|fork|notebook", str(trainer["strategy"])):
        raise InputError(
            f"trainer.strategy={trainer['strategy']}: wanted ranks that are started by this command, not copied from "
            "its memory; use trainer=ddp_cpu, or trainer=ddp for GPUs"
        )
    _check_batchnorm(trainer)
    launch.check_nodes(trainer["num_nodes"], str(config.hydra.launcher._target_))
    if not sweep.runs_elsewhere(config.hydra):
        launch.check_devices(trainer["accelerator"], trainer["devices"])


def _check_batchnorm(trainer: Mapping[str, Any]) -> None:
    """Raise an `InputError` if batch normalisation is to be synchronised on a device that torch does not support."""
    if trainer.get("sync_batchnorm") and trainer["accelerator"] == "cpu":
        raise InputError(
            "trainer.sync_batchnorm=true: wanted GPUs, because torch synchronises batch normalisation on no others, "
            "found trainer.accelerator=cpu; leave it out, or choose trainer=ddp"
        )


def shipped(config: DictConfig) -> Iterator[tuple[str, Any]]:
    """Yield the keys that conf/ gives a default, with the default, of the choices that are made in a configuration."""
    yield from configs.leaves(configs.read("train"))
    for term in set(config.loss) & set(configs.choices("loss")):
        yield from configs.leaves(configs.read(f"loss/{term}"))
        yield from configs.leaves(configs.read("options/default"), f"loss.{term}.")
    files = [(group, group, choice) for group in _SEVERAL for choice in configs.choices(group)]
    for chosen, choice in config.hydra.runtime.choices.items():
        group = chosen.partition("@")[0]
        if group in configs.groups() and group not in (*_SEVERAL, "loss", "options", "experiment"):
            files.append((group, group.replace("/", "."), choice))
    files.append(("trainer", "trainer", "default"))
    for group, package, choice in files:
        if choice in configs.choices(group):
            content = configs.read(f"{group}/{choice}")
            yield from configs.leaves(content, "" if package.split(".")[0] in content else f"{package}.")


def _unresolved(config: DictConfig) -> Iterator[tuple[str, Any]]:
    return configs.leaves(cast(dict[str, Any], OmegaConf.to_container(config, resolve=False)))


def _resolved(config: DictConfig, key: str) -> Any:
    """Return the value of a key, all interpolations resolved; an `InputError` names one that reads what is not there.

    Values that are missing stay so.
    """
    try:
        node = OmegaConf.select(config, key, throw_on_missing=False)
        return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    except InterpolationKeyError as error:
        wanted = str(error).partition("'")[2].partition("'")[0]
        group = wanted.partition(".")[0]
        choice = config.hydra.runtime.choices.get(group)
        owner = f"{group}={choice}" if choice else "this configuration"
        remedy = _instead_of(str(error.full_key), config) if choice else "name a key that is there"
        raise InputError(f"{error.full_key} reads {wanted}, which {owner} does not have; {remedy}") from error
    except InterpolationResolutionError:  # of a value that is missing
        return {}


def _instead_of(key: str, config: DictConfig) -> str:
    from lossframe.training import preflight  # torch takes seconds

    return preflight.instead_of(key, config)


def _check_kind(key: str, default: Any, values: Mapping[str, Any]) -> None:
    """Raise an `InputError` if the value of a key is of another kind than its default."""
    found = _at(values, key)
    default = _number(default)
    wanted = _kind(default)
    null = found is None and not _NEVER_NULL.fullmatch(key)
    if wanted is None or key in _OF_OTHER_KINDS or found is _ABSENT or null:
        return
    fits = {"true or false": bool, "a whole number": int, "a number": int | float, "a list": list}[wanted]
    if not isinstance(found, fits) or (isinstance(found, bool) and wanted != "true or false"):
        shown = (
            {None: "null", True: "true", False: "false"}.get(found, found)
            if not isinstance(found, list | dict)
            else found
        )
        text = f"the text {found!r}" if isinstance(found, str) else shown
        usual = int(found) if isinstance(found, float) and found.is_integer() else default
        usual = str(usual).replace(" ", "").lower()
        raise InputError(f"{key}={shown}: wanted {wanted}, found {text}; as in {key}={usual}")


def _at(values: Mapping[str, Any], key: str) -> Any:
    """Return the value of a key, or a mark that there is none."""
    found: Any = values
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return _ABSENT
        found = found[part]
    return found


def _kind(default: Any) -> str | None:
    if isinstance(default, bool):
        return "true or false"
    if isinstance(default, int | float):
        return "a whole number" if isinstance(default, int) else "a number"
    return "a list" if isinstance(default, list) else None


def _number(default: Any) -> Any:
    """Return the number that a text such as 1e-7 is for Hydra, and not for YAML; other values as they are."""
    try:
        return float(default) if isinstance(default, str) else default
    except ValueError:
        return default
