"""Each key of each file of conf/ refuses a misspelt name, and values of wrong kinds or out of range, in one line."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from key_ranges import out_of_range
from omegaconf import DictConfig, OmegaConf

from lossframe import configs
from lossframe.training import launch
from lossframe.training.checks import composed, kinds, preflight, signatures
from lossframe.training.checks.user_errors import explain

sys.path.insert(0, str(ROOT / "scripts"))
from fuzzing import commands

PARSER = OverridesParser.create()
NEEDED = {
    "data/csv": ["data.path=a.csv", "data.target=a"],
    "data/csv_pairs": ["data.path=a.csv"],
    "data/folder": ["data.root=a"],
    "data/images/folder": ["data.images.root=a"],
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


FIT = {
    "data/breast_cancer": "experiment=breast_cancer", "data/conflict": "experiment=conflict",
    "data/csv": "experiment=regression", "data/csv_pairs": "experiment=pairs", "data/diabetes": "experiment=diabetes",
    "data/digit_halves": "experiment=completion", "data/digit_pairs": "experiment=pairs",
    "data/digit_triplets": "experiment=triplets", "data/images": "experiment=pairs",
    "data/two_digits": "experiment=two_digits", "experiment/classification": "data=breast_cancer",
    "experiment/regression": "data=diabetes", "model/mlp": "experiment=diabetes", "model/siamese": "experiment=pairs",
    "callbacks/confusion": "loss=cross_entropy", "metrics/classification": "loss=cross_entropy",
}  # fmt: skip
"""What a choice, or any of a group, can be trained with."""
PARTS = {"log_every": "callbacks", "checkpoint_every": "callbacks", "optional": "loss"}
"""What reads keys outside of groups, where the whole configuration is not checked for them."""


def composition(group: str, choice: str) -> DictConfig:
    """Return a configuration with a choice of a group."""
    chosen = [] if group in ("", "options") or (group, choice) == ("trainer", "default") else [f"{group}={choice}"]
    chosen = [f"callbacks=[default,{choice}]"] if group == "callbacks" else chosen
    if fit := FIT.get(f"{group}/{choice}", FIT.get(group)):
        chosen = [fit, *chosen]
    config = commands.configuration(" ".join([*chosen, *NEEDED.get(f"{group}/{choice}", [])])).copy()
    OmegaConf.set_struct(config, False)
    kept = {"runtime": {"choices": config.hydra.runtime.choices}, "mode": "RUN"}
    config.hydra = {**kept, "launcher": {"_target_": config.hydra.launcher._target_}}  # the rest takes long to copy
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


def refusal_of_part(config: DictConfig, key: str, value: str) -> str | None:
    """Return the line that refuses a value before training, where what reads the key is made; None if there is none."""
    changed = config.copy()
    part = key.partition(".")[0]
    try:
        ConfigLoaderImpl._apply_overrides_to_config([PARSER.parse_override(f"{key}={value}")], changed)
        if part != "data":
            commands.checked(changed, PARTS.get(part, part))
            return None
        composed.check(changed)
        data = preflight.data_of(OmegaConf.masked_copy(changed, [str(key) for key in changed if key != "hydra"]))
        data.setup()
        data.train_dataloader()
    except Exception as error:
        return explain(error, changed)
    return None


TRIED: set[tuple[object, ...]] = set()


def is_new(config: DictConfig, key: str, test: str) -> bool:
    """Return whether a key is the first one of its target and name in a test."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    of_terms = key.startswith(("inputs.", "weights."))
    owner = str(node.get("_target_") or (key.partition(".")[0] if of_terms else parent))
    tried = (test, owner, "" if key.startswith("weights.") else name)
    known = tried in TRIED
    TRIED.add(tried)
    return not known


each_file = pytest.mark.parametrize(
    ("group", "choice"),
    [pytest.param(*each, marks=pytest.mark.slow if each[0] in MANY else []) for each in [("", "train"), *FILES]],
)


@each_file
def test_each_key_refuses_a_misspelt_name_and_wrong_kinds(group: str, choice: str) -> None:
    config = composition(group, choice)
    for key, default in keys(group, choice):
        if not is_new(config, key, "kinds"):
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


@each_file
def test_each_key_refuses_values_out_of_its_range(
    group: str, choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "_gpus", lambda: 2)
    config = composition(group, choice)
    for key, default in keys(group, choice):
        if kinds.of_default(default) == {bool} or not is_new(config, key, "ranges"):
            continue
        for value in out_of_range(key):
            line = refusal_of_part(config, key, value) or ""
            assert key in line, (key, value, line)
            assert value.strip("[]") in line.replace(" ", ""), (key, value, line)
            assert "\n" not in line
    assert not list(tmp_path.iterdir())
