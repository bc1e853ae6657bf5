"""Each key of each file of conf/ refuses a misspelt name and values of wrong kinds in one line, which names the key."""

import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import ROOT
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from lossframe import configs
from lossframe.training.checks import composed, kinds, signatures
from lossframe.training.checks.user_errors import explain

sys.path.insert(0, str(ROOT / "scripts"))
from fuzzing import commands

PARSER = OverridesParser.create()
NEEDED = {
    "data/csv": ["data.path=a.csv", "data.target=a"],
    "data/csv_pairs": ["data.path=a.csv"],
    "data/folder": ["data.root=a"],
}
SHOWN = re.compile(r".*(_target_|_partial_|\.hyperparameters\..*)")
FILES = [(group, choice) for group in configs.groups() for choice in configs.choices(group)]
MANY = ("balance", "experiment", "loss")
"""Groups whose files are so many that only slow runs try them."""
WRONG = {
    bool: ["perhaps", "null"],
    int: ["many", "true", "nan"],
    float: ["much", "{a:1}"],
    list: ["3"],
    str: ["3", "[1]"],
}


def keys(group: str, choice: str) -> Iterator[tuple[str, Any]]:
    """Yield the full keys of a file, with the values there."""
    content = configs.read(f"{group}/{choice}" if group else "train")
    package = "loss.triplet" if group == "options" else group.replace("/", ".")
    whole = not group or package.split(".")[0] in content or group in ("experiment", "loss")
    for key, default in configs.leaves(content):
        if not SHOWN.fullmatch(key) and key not in configs.groups():
            yield key if whole else f"{package}.{key}", default


def composition(group: str, choice: str) -> DictConfig:
    """Return a configuration with a choice of a group."""
    chosen = [] if group in ("", "options") or (group, choice) == ("trainer", "default") else [f"{group}={choice}"]
    chosen = [f"callbacks=[default,{choice}]"] if group == "callbacks" else chosen
    chosen = ["data=digit_pairs", *chosen] if group == "data/images" else chosen
    config = commands.configuration(" ".join([*chosen, *NEEDED.get(f"{group}/{choice}", [])])).copy()
    OmegaConf.set_struct(config, False)
    config.hydra = {"runtime": {"choices": config.hydra.runtime.choices}}  # the rest takes long to copy
    OmegaConf.set_struct(config, True)
    return config


def refusal(config: DictConfig, override: str) -> str | None:
    """Return the line that refuses an override; None if there is none."""
    changed = config.copy()
    try:
        ConfigLoaderImpl._apply_overrides_to_config([PARSER.parse_override(override)], changed)
        composed._check_kinds(changed)  # the first of the checks that a run makes
        if "experiment" in changed.hydra.runtime.choices:  # whose values are no defaults
            signatures.check(OmegaConf.masked_copy(changed, [str(key) for key in changed if key != "hydra"]))
    except Exception as error:
        return explain(error, changed)
    return None


TRIED: set[tuple[str, str]] = set()


def is_new(config: DictConfig, key: str) -> bool:
    """Return whether a key is the first one of its target and name."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    of_terms = key.startswith(("inputs.", "weights."))
    owner = str(node.get("_target_") or (key.partition(".")[0] if of_terms else parent))
    tried = (owner, "" if key.startswith("weights.") else name)
    known = tried in TRIED
    TRIED.add(tried)
    return not known


@pytest.mark.parametrize(
    ("group", "choice"),
    [pytest.param(*each, marks=pytest.mark.slow if each[0] in MANY else []) for each in [("", "train"), *FILES]],
)
def test_each_key_refuses_a_misspelt_name_and_wrong_kinds(group: str, choice: str) -> None:
    config = composition(group, choice)
    for key, default in keys(group, choice):
        if not is_new(config, key):
            continue
        parent, _, name = key.rpartition(".")
        misspelt = f"{name[:2]}{name[3:]}" if len(name) > 5 else f"{name}x"
        line = refusal(config, f"{parent}.{misspelt}=1".lstrip(".")) or ""
        assert re.search(rf"{re.escape(misspelt)}: wanted one of .*Did you mean '{name}'|wanted the name of", line), (
            line
        )
        (kind, *_) = sorted(kinds.of_default(default), key=lambda each: each is int) or [None]
        if "${" in str(default) or composed._OF_OTHER_KINDS.fullmatch(key):
            continue
        if group == "experiment" and kind in (list, str):  # which the objective refuses, or the model that is made
            continue
        for value in WRONG.get(kind, []):
            line = refusal(config, f"{key}={value}") or ""
            assert line.startswith(f"{key}="), (key, value, line)
            assert ": wanted " in line
            assert "\n" not in line
