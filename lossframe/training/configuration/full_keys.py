"""Writes parameters that a message speaks of as the keys of the configuration, so that each can be typed as it is."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from lossframe import configs
from lossframe.errors import InputError

_ASSIGNED = re.compile(r"(?<![\w.'=/-])([a-z_A-Z]\w*)=(?=[\w\[.'(-])")
_TUPLE = re.compile(r"(?<=\w)=\(([^()]*)\)")
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_SPOKEN_OF = r"(?:(?<=^)|(?<=: )|(?<=wanted )|(?<=whole number )|(?<=set )|(?<=lower )|(?<=and ))(?<!['.\w])"


def written_out(message: str, error: BaseException, config: DictConfig) -> str:
    """Return a message with full keys in place of the parameters of the object that raised an error.

    A proposed `NAME=VALUE` becomes the only key of the configuration that ends in this name, as `data.batch_size=64`.
    """
    content = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    content.pop("hydra", None)
    keys = dict(configs.leaves(content))
    node = _node(error, content)
    if node:
        for key in sorted((key for key in keys if key.startswith(f"{node}.")), key=_nearness):
            name = re.escape(key.rpartition(".")[2])
            full = source(key, content).replace("\\", r"\\")
            message = re.sub(rf"{_SPOKEN_OF}(?:`{name}`|{name})(?![\w.'=])", full, message)
    message = _ASSIGNED.sub(lambda found: f"{_full(found[1], node, keys, content)}=", message)
    message = _TUPLE.sub(lambda found: f"=[{found[1].replace(' ', '')}]", message)
    is_there = any(key in message for key in keys if "." in key or f"{key}=" in message)
    target = str(OmegaConf.select(config, f"{node}._target_", default="")) if node else ""
    if is_there or (
        target.startswith(("lossframe.callbacks.", "pytorch_lightning.Trainer")) and _is_of_training(error)
    ):
        return message  # which is told by what runs the training
    resolved = {key: keys.get(source(key, content), value) for key, value in keys.items()}
    if not isinstance(_root(error), InputError) and (meant := _meant(message, node, resolved)):
        typed = " ".join(f"{source(key, content)}={str(value).replace(' ', '')}" for key, value in meant.items())
        return f"{typed}: {message.removeprefix(f'{node}: ')}"
    return message if node in message else f"{node}: {message}"


def _is_of_training(error: BaseException) -> bool:
    """Return whether an error is one of ours that nobody raised who made an object of the configuration."""
    is_of_making = isinstance(error, InstantiationException)
    if error.__cause__ is not None and not is_of_making:
        return _is_of_training(error.__cause__)
    return isinstance(error, InputError) and not is_of_making


def _nearness(key: str) -> tuple[int, int]:
    """Sort the keys of an object: its own parameters before those of objects in it, and long names first."""
    return key.count("."), -len(key)


def source(key: str, content: Mapping[str, Any]) -> str:
    """Return the key that a key's value is copied from, as `log_every` of `callbacks.monitor.log_every`; or itself.

    >>> source("model.classes", {"model": {"classes": "${data.classes}"}, "data": {"classes": 3}})
    'data.classes'
    """
    found: Any = content
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    read = _REFERENCE.fullmatch(found) if isinstance(found, str) else None
    return source(read[1], content) if read and read[1] != key else key


def _root(error: BaseException) -> BaseException:
    """Return the first error of a chain; an `InputError` there is lossframe's own, which names what it means."""
    return error if error.__cause__ is None else _root(error.__cause__)


def _meant(message: str, node: str, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of an object, with values, that a message names by their last parts or shows the values of.

    Other libraries say `Invalid rho value: -1`. Nothing is returned if that may be any of more than two.
    """
    own = {key: value for key, value in keys.items() if node and key.startswith(f"{node}.")}
    words = set(re.findall(r"-?[\w.+-]*\w", message.removeprefix(f"{node}: ")))
    shown = [key for key, value in own.items() if str(value) in words]
    named = [key for key in own if key.rpartition(".")[2] in words]
    meant = [key for key in shown if key in named] or shown or named
    return {key: own[key] for key in meant} if len(meant) <= 2 else {}


def _full(name: str, node: str, keys: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    """Return the key of a name, by preference of the node; the name itself if none or several have it."""
    ending = [key for key, value in keys.items() if key.endswith(f".{name}") and not str(value).startswith("${")]
    inside = [key for key in ending if node and key.startswith(f"{node}.")]
    if name in content:
        return name
    return inside[0] if len(inside) == 1 else ending[0] if len(ending) == 1 else name


def _node(error: BaseException, content: Mapping[str, Any]) -> str:
    """Return the key of the object that raised an error: where Hydra made it, or of the class that runs the method."""
    targets = list(_targets(content, ""))
    link: BaseException | None = error
    found = ""
    while link is not None:
        if isinstance(link, InstantiationException):
            found = full_key(link) or found
        classes = [type(frame.f_locals.get("self")).__name__ for frame in _frames(link)]
        for name in classes:
            nodes = [key for key, target in targets if target == name]
            found = nodes[0] if len(nodes) == 1 else found
        link = link.__cause__
    return found


def full_key(error: InstantiationException) -> str:
    """Return the key of what Hydra could not make; nothing if that is the whole of what it was given."""
    _, known, key = str(error).rpartition("full_key: ")
    return key.strip() if known else ""


def _frames(error: BaseException) -> Iterator[Any]:
    step = error.__traceback__
    while step is not None:
        yield step.tb_frame
        step = step.tb_next


def _targets(content: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """Yield every key whose value is made by a class, with the class's name."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            if isinstance(value.get("_target_"), str):
                yield f"{path}{key}", value["_target_"].rpartition(".")[2]
            if value.get("_recursive_", True):
                yield from _targets(value, f"{path}{key}.")
