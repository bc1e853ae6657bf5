"""Brings a composed configuration into the form that is trained, and refuses what nothing would read."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationKeyError, InterpolationResolutionError

from lossframe import configs
from lossframe.errors import InputError, names, nearest

_TERMS = ("loss", "weights", "inputs")
"""The keys that a file of conf/loss fills for its term."""
_BY_NAME = (*_TERMS, "schedule", "metrics", "logger", "callbacks")
"""The keys that hold things by name; null means none of them."""


def prepared(config: DictConfig) -> DictConfig:
    """Return a configuration whose terms are all under `loss`, without the things that null leaves out.

    `+loss@NAME=CHOICE` composes a loss into a package NAME of its own; its term is then called NAME. A term, a logger
    or a callback that is null is left out, a term with its weight and inputs. Raises an
    `InputError` for a key that nothing reads. A configuration that is prepared already is returned as it is.
    """
    result = config.copy()
    with open_dict(result):
        for key in _BY_NAME:
            if key in result and result[key] is None:
                result[key] = {}
        for parent in (result, result.loss):
            for name in [name for name in parent if _is_package(parent, name)]:
                _move_term(result, str(name), parent.pop(name))
        for key, along in (("loss", (*_TERMS, "schedule")), ("logger", ["logger"]), ("callbacks", ["callbacks"])):
            for name in [name for name, each in result[key].items_ex(resolve=False) if each is None]:
                for each in along:
                    result[each].pop(name, None)
    _check_loss_files(result)
    _check_keys(result)
    return result


def terms(config: DictConfig) -> list[str]:
    """Return the names of the terms of a configuration, whether it is prepared or not."""
    return [
        str(name) for name in [*(config.get("loss") or []), *(name for name in config if _is_package(config, name))]
    ]


def _is_package(parent: DictConfig, name: Any) -> bool:
    """Return whether a node is what a file of conf/loss writes into a package of its own."""
    if OmegaConf.is_interpolation(parent, name) or OmegaConf.is_missing(parent, name):
        return False
    node = parent[name]
    return name not in _BY_NAME and isinstance(node, DictConfig) and "loss" in node and set(node) <= set(_TERMS)


def _move_term(config: DictConfig, name: str, package: DictConfig) -> None:
    """Move the one term of a package to `loss`, `weights` and `inputs` of a configuration, under the package's name."""
    terms = list(package.loss)
    if len(terms) != 1:
        raise InputError(f"+loss@{name}: wanted one loss, found {names(terms)}; give each one a name, +loss@NAME=LOSS")
    if name in config.loss and "_target_" in config.loss[name]:
        raise InputError(f"+loss@{name}={terms[0]}: there is a term {name!r} already; choose another name")
    for key in _TERMS:
        if terms[0] in package.get(key, {}):
            moved = {name: package[key]._get_node(terms[0])}
            config[key] = OmegaConf.merge(moved, config[key])  # what is set under the new name holds


def _check_loss_files(config: DictConfig) -> None:
    """Raise an `InputError` if a file of `loss` was composed into `loss` instead of the whole configuration."""
    if "_target_" in config.loss or any(key in config.loss for key in ("weights", "inputs")):
        raise InputError(
            "loss: wanted a mapping from names of terms to losses, found the keys "
            f"{names(config.loss)}; begin a loss file NAME.yaml by '# @package _global_' and write loss: {{NAME: ...}} "
            "in it, as lossframe's own files do"
        )


def _check_keys(config: DictConfig) -> None:
    """Raise an `InputError` for keys that were added and that nothing reads, neither the program nor another key."""
    for path, known, found in _mappings(config):
        for key in found:
            name = f"{path}{key}"
            if key not in known and not _is_read(name, config):
                near = nearest(str(key), known)
                raise InputError(
                    f"{name}: nothing reads this key; leave it out, or choose one of {names(sorted(known))}.{near}"
                )
    for group in ("logger", "callbacks"):
        for name, each in config[group].items_ex(resolve=False):
            if not isinstance(each, Mapping) or "_target_" not in each:
                raise InputError(f"{group}.{name}: wanted a mapping with a _target_, found {each!r}; leave it out")


def _mappings(config: DictConfig) -> Iterator[tuple[str, set[str], Iterable[Any]]]:
    """Yield the prefix of each mapping whose keys the program reads itself, the known keys and those found."""
    chosen = [group for each in configs.read("train")["defaults"] if isinstance(each, dict) for group in each]
    yield "", {*configs.read("train"), *chosen} - {"defaults", "experiment"}, config
    if not isinstance(monitor := config.get("checkpoint_monitor") or {}, Mapping):
        raise InputError(f"checkpoint_monitor={monitor}: wanted a mapping, as in checkpoint_monitor.mode=min")
    yield "checkpoint_monitor.", {"metric", "mode"}, monitor
    for name, metric in config.metrics.items():
        if not isinstance(metric, Mapping) or not {"reads", "metric"} <= set(metric):
            wanted = "wanted a mapping with the keys 'reads' and 'metric'"
            raise InputError(f"metrics.{name}: {wanted}, found {metric}; choose other metrics, or none by metrics=[]")
        yield f"metrics.{name}.", {"reads", "metric"}, metric


def _is_read(key: str, config: DictConfig) -> bool:
    """Return whether an interpolation in a configuration, or in Hydra's own, reads a key or a part of the key."""
    texts = [OmegaConf.to_yaml(config)]
    if HydraConfig.initialized():
        texts.append(OmegaConf.to_yaml(HydraConfig.get()))
    return any(re.search(rf"\$\{{[^}}]*\b{re.escape(key)}\b", text) for text in texts)


def unresolved(config: DictConfig) -> str | None:
    """Return the first key of a configuration that reads a key which is not there; None if there is none.

    >>> unresolved(OmegaConf.create({"model": {"size": "${data.size}"}, "data": {}}))
    'model.size'
    """
    try:
        OmegaConf.to_container(config, resolve=True)
    except InterpolationKeyError as error:
        return str(error.full_key)
    except InterpolationResolutionError:  # of a value that is missing
        return None
    return None
