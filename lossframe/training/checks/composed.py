"""Checks a composed configuration by what conf/ says, before torch is imported and before a folder is made."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, InterpolationResolutionError, OmegaConfBaseException

from lossframe import configs
from lossframe.errors import InputError
from lossframe.training import launch
from lossframe.training.checks import kinds, ranges
from lossframe.training.checks.kinds import Kinds
from lossframe.training.configuration import composition

_SEVERAL = ("logger", "callbacks", "metrics")
"""Groups of which several choices may be made, apart from `loss`."""
_OF_OTHER_KINDS = re.compile(
    r"trainer\.(devices|deterministic|val_check_interval|precision)|logger\.\w+\.version|.*\.hyperparameters\..*"
)
"""Keys that take other kinds of values than their default is of."""
_IF_NOT_NULL = {"ckpt": "runs/RUN/checkpoints/last.ckpt", "run_dir": "runs/RUN", "checkpoint_every.steps": 100}
"""Values, as examples of their kind, of keys that are null by default."""
_NEEDED = ("data", "model", "optimizer", "trainer")
"""Groups that cannot be left empty, each of which is one object."""
_ABSENT = object()
_READS = re.compile(r"\$\{([\w.]+)\}")
_NEVER_NULL = re.compile(
    r"seed|log_every|weights\..*|checkpoint_monitor\..*|data\.(split|task|decimal)|.*\._recursive_"
)


def check(config: DictConfig) -> None:
    """Raise an `InputError` if a value is missing or of another kind than its default, or ranks cannot be started."""
    config = composition.prepared(config)
    _check_given(config)
    _check_made(config)
    _check_kinds(config)
    values = {str(key): _resolved(config, str(key)) for key in config if key != "hydra"}
    check_seed(values["seed"])
    _check_monitor(values["checkpoint_monitor"])
    ranges.check(values, cast(dict[str, Any], OmegaConf.to_container(config, resolve=False)))
    trainer = values["trainer"]
    if re.search("spawn|fork|notebook", str(trainer["strategy"])):
        raise InputError(
            f"trainer.strategy={trainer['strategy']}: wanted ranks that are started by this command, not copied from "
            "its memory; use trainer=ddp_cpu, or trainer=ddp for GPUs"
        )
    _check_batchnorm(trainer)
    _check_mesh(trainer)
    launch.check_nodes(trainer["num_nodes"], str(config.hydra.launcher._target_))
    if not launch.is_of_sweep_elsewhere(config.hydra):
        launch.check_devices(trainer["accelerator"], trainer["devices"])


def _check_given(config: DictConfig) -> None:
    """Raise an `InputError` if there is no loss, a value is missing, or a path is an empty text."""
    if not config.loss:
        raise InputError("loss=[]: wanted at least one loss, found none; choose one, as in loss=triplet")
    if missing := [key for key, value in _unresolved(config) if value == "???"]:
        typed = " ".join(f"{key}=VALUE" for key in missing)
        raise InputError(f"{', '.join(missing)}: wanted a value, found none; add {typed}")
    for key in ("ckpt", "run_dir"):
        if config[key] == "":
            raise InputError(f"{key}=: wanted a path, or null for none, found an empty text")


def check_seed(seed: Any) -> None:
    """Raise an `InputError` if a seed is out of range."""
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise InputError(f"seed={seed}: wanted a whole number from 0 to {2**32 - 1}")


def _check_monitor(monitor: Any) -> None:
    """Raise an `InputError` if what chooses the best checkpoint is no mapping, or has another mode than there are."""
    if not isinstance(monitor, Mapping) or "mode" not in monitor:
        raise InputError(f"checkpoint_monitor={monitor}: wanted a mapping, as in checkpoint_monitor.mode=min")
    mode = monitor["mode"]
    if mode not in ("min", "max"):
        raise InputError(f"checkpoint_monitor.mode={mode}: wanted one of 'min', 'max'")


def _check_batchnorm(trainer: Mapping[str, Any]) -> None:
    """Raise an `InputError` if batch normalisation is to be synchronised on a device that torch does not support."""
    if trainer.get("sync_batchnorm") and trainer["accelerator"] == "cpu":
        raise InputError(
            "trainer.sync_batchnorm=true: wanted GPUs, because torch synchronises batch normalisation on no others, "
            "found trainer.accelerator=cpu; leave it out, or choose trainer=ddp"
        )


def _check_mesh(trainer: Mapping[str, Any]) -> None:
    """Raise an `InputError` if a strategy divides the ranks otherwise than there are some."""
    strategy, devices = trainer["strategy"], str(trainer["devices"])
    if not isinstance(strategy, Mapping) or not devices.isdigit():
        return
    sizes = [strategy.get(key, "auto") for key in ("data_parallel_size", "tensor_parallel_size")]
    ranks = int(devices) * (trainer["num_nodes"] or 1)
    if all(isinstance(size, int) for size in sizes) and sizes[0] * sizes[1] != ranks:
        raise InputError(
            f"trainer.strategy.data_parallel_size={sizes[0]} trainer.strategy.tensor_parallel_size={sizes[1]}: wanted "
            f"a product of {ranks}, the number of ranks, found {sizes[0] * sizes[1]}; choose other sizes, or "
            "trainer.devices"
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
    from lossframe.training.checks import proposals  # torch takes seconds

    return proposals.instead_of(key, config)


def _check_made(config: DictConfig) -> None:
    """Raise an `InputError` if a group that a run cannot do without is not what a class makes."""
    for group in _NEEDED:
        found = config.get(group)
        target = found.get("_target_") if isinstance(found, DictConfig) else None
        if not isinstance(target, str) or not target.strip():
            choices = ", ".join(f"{group}={choice}" for choice in configs.choices(group))
            wanted = f"wanted a mapping with a _target_, a class's name; as in {choices}"
            raise InputError(f"{group}={kinds.shown(found)}: {wanted}")
    for term, loss in config.loss.items():
        if not isinstance(loss, DictConfig):
            wanted = f"wanted a mapping with a _target_, the class of a loss; the term's weight is weights.{term}"
            raise InputError(f"loss.{term}={kinds.shown(loss)}: {wanted}")


def _check_kinds(config: DictConfig) -> None:
    """Raise an `InputError` if a value is of another kind than its default, or an element than the default's elements.

    A value that reads another key, as its default does, is that key's.
    """
    values = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    defaults = dict(shipped(config)) | _IF_NOT_NULL
    for key, default in defaults.items():
        found = _at(values, key)
        if found is _ABSENT or (type(found) is type(default) and found == default) or _OF_OTHER_KINDS.fullmatch(key):
            continue
        if isinstance(found, str) and "${" in found:
            found = _known(config, key)
        example = _followed(default, defaults)
        wanted = kinds.of_default(example)
        if found is not _ABSENT and wanted and not (found is None and _may_be_null(key, wanted)):
            _check_kind(key, found, wanted, example)


def _followed(default: Any, defaults: Mapping[str, Any]) -> Any:
    """Return the default of the key that a default reads, if it reads one alone; null if that has none."""
    read = _READS.fullmatch(default) if isinstance(default, str) else None
    return _followed(defaults.get(read[1]), defaults) if read else default


def _may_be_null(key: str, wanted: Kinds) -> bool:
    return not _NEVER_NULL.fullmatch(key) and wanted != {bool}


def _check_kind(key: str, found: Any, wanted: Kinds, default: Any) -> None:
    counts = key.startswith("trainer.") and not wanted & {str, list}
    plain = key in _IF_NOT_NULL or wanted == {bool} or counts  # nothing that a class makes
    if not kinds.fits(found, wanted) or (plain and isinstance(found, Mapping)):
        raise InputError(kinds.refusal(key, found, wanted, default))
    of_elements = {kinds.of_default(each) for each in default} if isinstance(default, list) else set()
    for each in found if len(of_elements) == 1 else ():
        if not kinds.fits(each, *of_elements):
            raise InputError(
                kinds.refusal(key, found, wanted, default).replace(
                    "wanted a list, ", f"wanted a list, each {kinds.wanted(*of_elements)}, "
                )
            )


def _known(config: DictConfig, key: str) -> Any:
    """Return the value of a key that reads others; a mark that there is none if one of them is not there."""
    try:
        return OmegaConf.select(config, key, default=_ABSENT)
    except OmegaConfBaseException:  # _resolved says which
        return _ABSENT


def _at(values: Mapping[str, Any], key: str) -> Any:
    """Return the value of a key, or a mark that there is none."""
    found: Any = values
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return _ABSENT
        found = found[part]
    return found
