"""The yaml files of `lossframe.conf`, read without Hydra: what can be chosen, and what a choice says."""

from importlib.resources import files
from typing import Any

import yaml


def choices(group: str) -> list[str]:
    """Return what can be chosen in a group, as `loss` or `experiment`."""
    found = (files("lossframe.conf") / group).iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in found if file.name.endswith(".yaml"))


def read(path: str) -> dict[str, Any]:
    """Return the contents of one file, as `loss/triplet` or `train`, as they are written there."""
    content: dict[str, Any] = yaml.safe_load((files("lossframe.conf") / f"{path}.yaml").read_text(encoding="utf-8"))
    return content
