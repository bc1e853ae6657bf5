"""Finds the losses and objectives of a module by the names that its author gave them, also in plain containers."""

from argparse import Namespace
from collections import UserDict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytorch_lightning as pl
from torch import nn

from lossframe.statistics import registry
from lossframe.statistics.recorder import Recorder

_WRAPPERS = {
    "ActivationWrapper": "_checkpoint_wrapped_module", "AveragedModel": "module", "DataParallel": "module",
    "DeepSpeedEngine": "module", "DistributedDataParallel": "module",
    "FullyShardedDataParallel": "_fsdp_wrapped_module", "OptimizedModule": "_orig_mod", "QuantWrapper": "module",
    "_FabricModule": "_forward_module",
}  # fmt: skip
"""Attribute of each wrapper of torch, Lightning and DeepSpeed that holds the user's module."""
_PACKAGES = ("torch", "lightning_fabric", "lightning", "pytorch_lightning", "deepspeed")
_INTERNAL = frozenset(vars(pl.LightningModule())) | {"_hparams", "_hparams_initial"}
"""Attributes that Lightning sets, where hyperparameters hold copies of losses."""
_CONTAINERS, _ENTRIES = 2, 256
"""How deep plain containers are searched, and how many entries a container has that is not a data set."""


class Link(NamedTuple):
    """One step on the way from a module to a recorder: `holder[key]` is `module`."""

    holder: Any
    key: Any
    module: nn.Module

    def holds(self) -> bool:
        """Return whether the holder still has the module."""
        try:
            return self.holder[self.key] is self.module
        except (KeyError, IndexError):
            return False


class Place(NamedTuple):
    """Module at a path, such as `net.aux` or `losses.0`, with the links to it. `plain`: in no registered module."""

    path: str
    module: nn.Module
    links: tuple[Link, ...]
    plain: bool


class Watch:
    """Notices in microseconds whether a module has gained, lost or replaced a recorder since the watch began.

    A recorder that was made before the watch and is put into a plain container afterwards is not noticed.
    """

    def __init__(self, module: nn.Module) -> None:
        self._created = registry.created()
        self._links = {(id(link.holder), link.key): link for place in recorders(module) for link in place.links}

    def changed(self) -> bool:
        """Return whether the recorders of the module must be found anew."""
        return registry.created() != self._created or not all(link.holds() for link in self._links.values())


def recorders(module: nn.Module) -> list[Place]:
    """Return the first place of each loss and objective in a module: registered ones, then those in plain attributes.

    Lists, tuples, dicts, dataclasses and namespaces are searched, also inside one another. The path of a module inside
    a wrapper, such as that of `torch.compile` or `DistributedDataParallel`, is that of the wrapper.
    """
    places: list[Place] = []
    seen: set[int] = set()
    _add(places, seen, "", module, (), plain=False)
    for place in places:  # which grows
        for name, value in list(vars(place.module).items()):
            if name not in _INTERNAL:
                for path, link in _plain(vars(place.module), name, value, name, _CONTAINERS):
                    _add(places, seen, _joined(place.path, path), link.module, (*place.links, link), plain=True)
    found = [place for place in places if isinstance(place.module, Recorder)]
    return [place for place in found if getattr(place.module, "owner", None) is None]  # a wrapper records for its loss


def _add(
    places: list[Place], seen: set[int], path: str, module: nn.Module, links: tuple[Link, ...], plain: bool
) -> None:
    """Append a module and its registered children, unless they were seen; a wrapper is replaced by what it wraps."""
    if id(module) in seen:
        return
    seen.add(id(module))
    wrapped = _wrapped(module)
    if wrapped is None:
        places.append(Place(path, module, links, plain))
    for name, child in module._modules.items():
        if child is not None:
            link = Link(module._modules, name, child)
            _add(places, seen, path if name == wrapped else _joined(path, name), child, (*links, link), plain)


def _wrapped(module: nn.Module) -> str | None:
    """Return the name of the attribute that holds the user's module if the module is a wrapper."""
    for kind in type(module).__mro__:
        if kind.__name__ in _WRAPPERS and kind.__module__.partition(".")[0] in _PACKAGES:
            return _WRAPPERS[kind.__name__]
    return None


def _plain(holder: Any, key: Any, value: Any, path: str, depth: int) -> Iterator[tuple[str, Link]]:
    """Yield the modules in a plain attribute with their paths, up to `depth` containers deep."""
    if isinstance(value, nn.Module):
        yield path, Link(holder, key, value)
    elif depth:
        inside, names = _opened(value)
        for name, (inner, entry) in zip(names, _items(inside), strict=True):
            yield from _plain(inside, inner, entry, f"{path}.{name}", depth - 1)


def _opened(value: Any) -> tuple[Any, Sequence[Any]]:
    """Return a dict or sequence with the entries of a container, and the entries' names; nothing of other objects."""
    if isinstance(value, UserDict):
        value = value.data
    elif isinstance(value, (SimpleNamespace, Namespace)):
        value = vars(value)
    elif is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name, None) for field in fields(value)}
    if not isinstance(value, (dict, list, tuple, deque)) or len(value) > _ENTRIES:
        return (), ()
    if isinstance(value, dict):
        return value, list(value)
    return value, getattr(value, "_fields", range(len(value)))  # a named tuple has names


def _items(container: Any) -> Iterable[tuple[Any, Any]]:
    return container.items() if isinstance(container, dict) else enumerate(container)


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
