"""The yaml files of `lossframe.conf`, read without Hydra: what can be chosen, and what a choice says."""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml


def root() -> Traversable:
    """Return the folder of these files: in the installed package, or beside the package in a checkout."""
    installed = files("lossframe") / "conf"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "conf"


@cache
def groups() -> list[str]:
    """Return the groups, the nested ones too, as `loss` or `data/sampler`; Hydra's own groups are not among them."""
    return sorted(group for group in _folders(root(), "") if group.split("/")[0] != "hydra")


def choices(group: str) -> list[str]:
    """Return what can be chosen in a group, as `loss` or `experiment`."""
    found = (root() / group).iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in found if file.name.endswith(".yaml"))


def read(path: str) -> dict[str, Any]:
    """Return the contents of one file, as `loss/triplet` or `train`, as they are written there."""
    text = (root() / f"{path}.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # ten times as fast
    return content


def target(loss: str) -> str:
    """Return the class that a file in `loss` makes, without its package."""
    made: str = read(f"loss/{loss}")["loss"][loss]["_target_"]
    return made.rpartition(".")[2]


@cache
def losses() -> dict[str, str]:
    """Return the name of the file in `loss` that makes each class."""
    return {target(name): name for name in choices("loss")}


def leaves(content: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of a nested mapping, apart from what is Hydra's."""
    for key, value in content.items():
        if key in ("defaults", "hydra"):
            continue
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _folders(folder: Traversable, path: str) -> Iterator[str]:
    for each in folder.iterdir():
        if each.is_dir() and not each.name.startswith("_"):
            yield f"{path}{each.name}"
            yield from _folders(each, f"{path}{each.name}/")
