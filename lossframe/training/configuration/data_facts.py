"""Fills in the keys of `data` that are null by what the data says of itself, such as the number of its classes."""

import re
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf, open_dict

from lossframe.errors import InputError

_PLAIN = re.compile(r"\$\{[^}:]*\}")


def fill(config: DictConfig, data: object) -> None:
    """Set the keys of `config.data` that are null to the values of `data.facts()`, a mapping from key to value.

    `facts` is called if another key reads one of these, as `model.num_classes: ${data.num_classes}` does. A key whose
    fact is None is removed, since the data has no such thing. Another value than the fact is an `InputError`.
    """
    if not hasattr(data, "facts") or not awaits(config):
        return
    for key, fact in data.facts().items():
        found = list(fact) if isinstance(fact, tuple) else fact
        given = config.data.get(key)
        given = OmegaConf.to_container(given) if OmegaConf.is_config(given) else given
        if given is not None and found is not None and given != found:
            raise InputError(
                f"data.{key}={given}: wanted {found}, which {type(data).__name__} finds; set data.{key}={found}"
            )
        with open_dict(config.data):
            if found is None:
                config.data.pop(key, None)
            elif given is None:
                config.data[key] = found


def awaits(config: DictConfig) -> bool:
    """Return whether a key of `data` is null that another key of the configuration reads.

    >>> awaits(OmegaConf.create({"data": {"size": None, "seed": None}, "model": {"inputs": "${data.size}"}}))
    True
    """
    text = OmegaConf.to_yaml(config)
    empty = [key for key in config.data if not OmegaConf.is_missing(config.data, key) and config.data[key] is None]
    return any(re.search(rf"\$\{{data\.{re.escape(str(key))}\}}", text) for key in empty)


def for_ranks(config: DictConfig) -> str:
    """Return a configuration as YAML for the other ranks, which fill in the facts of their own data.

    References to other keys stay, for they may read facts; what Hydra and lossframe resolve, as `${hydra:...}`, does
    not mean the same in another process and is resolved.
    """
    return OmegaConf.to_yaml(_for_ranks(OmegaConf.to_container(config), OmegaConf.to_container(config, resolve=True)))


def _for_ranks(node: Any, resolved: Any) -> Any:
    if isinstance(node, dict):
        return {key: _for_ranks(each, resolved[key]) for key, each in node.items()}
    if isinstance(node, list):
        return [_for_ranks(each, value) for each, value in zip(node, cast(list[Any], resolved), strict=True)]
    return node if isinstance(node, str) and "${" not in _PLAIN.sub("", node) else resolved
