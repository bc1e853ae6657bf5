"""The yaml files of `lossframe.conf`, read without Hydra: what can be chosen, and what a choice says."""

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import yaml


def groups() -> list[str]:
    """Return the names of all groups, as `data` and `data/sampler`."""

    def within(folder: Traversable, prefix: str) -> Iterator[str]:
        for each in folder.iterdir():
            if each.is_dir() and not each.name.startswith("_"):
                yield prefix + each.name
                yield from within(each, f"{prefix}{each.name}/")

    return sorted(within(files("lossframe.conf"), ""))


def choices(group: str) -> list[str]:
    """Return what can be chosen in a group, as `loss` or `experiment`."""
    found = (files("lossframe.conf") / group).iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in found if file.name.endswith(".yaml"))


def read(path: str) -> dict[str, Any]:
    """Return the contents of one file, as `loss/triplet` or `train`, as they are written there."""
    content: dict[str, Any] = yaml.safe_load((files("lossframe.conf") / f"{path}.yaml").read_text(encoding="utf-8"))
    return content
