"""Describes the configurations of runs in words, and finds their differences."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from lossframe.losses.base.options import known_options

COMPOSED = ("loss.", "weights.", "inputs.")
"""Prefixes of keys that exist only with their term."""


def described(value: Any) -> str:
    """Describe a part of a configuration as a call, without the options that every loss accepts.

    >>> described({"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.1, "log_std": True})
    'Adam(lr=0.1)'
    """
    if not isinstance(value, Mapping):
        return str(value)
    quiet = known_options()
    inside = [f"{k}={described(v)}" for k, v in value.items() if not str(k).startswith("_") and k not in quiet]
    return f"{_short(str(value.get('_target_', '')))}({', '.join(inside)})"


def facts(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the losses of a run with their weights, and its other parts, name -> lines of text."""
    losses, weights = _mapping(config, "loss"), _mapping(config, "weights")
    found = {"losses": [f"{weights.get(name, 1.0)} * {name}: {described(loss)}" for name, loss in losses.items()]}
    parts = ("data", "model", "optimizer", "scheduler", "seed", "ckpt")
    found |= {name: [described(config[name])] for name in parts if config.get(name) is not None}
    return {name: lines for name, lines in found.items() if lines}


def differences(
    configs: Sequence[Mapping[str, Any]], derived: Sequence[Collection[str]] | None = None
) -> dict[str, list[str | None]]:
    """Return the keys whose values differ between configurations, with one value per configuration, None if missing.

    A key that only some configurations have differs if it is a `_target_`, or if its values differ. Keys of a term are
    compared between the configurations that have the term. `derived` names the keys of each configuration, or groups of
    keys, that follow from others; what follows in all of them is left out.

    >>> differences([{"seed": 1, "loss": {"a": {"margin": 0.2}}}, {"seed": 2, "loss": {"b": {"margin": 0.5}}}])
    {'losses': ['a', 'b'], 'seed': ['1', '2']}
    """
    flat = [{"losses": " + ".join(_mapping(c, "loss")) or None} | dict(_flattened(c)) for c in configs]
    result = {}
    for key in dict.fromkeys(key for one in flat for key in one):
        if derived and all(_is_below(key, names) for one, names in zip(flat, derived, strict=True) if key in one):
            continue
        values = [one.get(key) for one in flat]
        whole = key == "losses" or (key.endswith("_target_") and not key.startswith(COMPOSED))
        if len(set(values) if whole else set(values) - {None}) > 1:
            result[key.removesuffix("._target_")] = values
    return result


def measured(config: Mapping[str, Any], tag: str) -> str:
    """Describe what a curve measures and on which samples; values of runs compare if their descriptions are equal.

    A loss is described by its parameters, except those that change which statistics are shown, and by the batch size,
    because it may depend on other samples of the batch. How training draws and labels its samples does not matter.
    """
    term = tag.removeprefix("loss/") if tag.startswith("loss/") else ""
    ignored = {"sampler", "label_noise"} | (set() if term else {"batch_size"})
    shown = {*known_options()} - {"reduction"}
    trainer = _mapping(config, "trainer")
    parts = {
        "data": {key: value for key, value in _mapping(config, "data").items() if key not in ignored},
        "limits": [trainer.get(f"limit_{stage}_batches") for stage in ("val", "test")],
        "metric": _mapping(config, "metrics").get(tag),
        "loss": {key: value for key, value in _mapping(_mapping(config, "loss"), term).items() if key not in shown},
    }
    return json.dumps(parts, sort_keys=True, default=str)


def lower_is_better(configs: Sequence[Mapping[str, Any]], tag: str) -> bool:
    """Return whether lower values are better: by the runs' checkpoint monitor, or else for losses and errors."""
    for config in configs:
        monitor = _mapping(config, "checkpoint_monitor")
        if str(monitor.get("metric", "")).partition("/")[2] == tag:
            return bool(monitor.get("mode") == "min")
    return tag.startswith("loss/") or any(word in tag.lower() for word in ("loss", "error", "mae", "mse", "perplexity"))


def _is_below(key: str, prefixes: Collection[str]) -> bool:
    parts = key.split(".")
    return any(".".join(parts[: k + 1]) in prefixes for k in range(len(parts)))


def _flattened(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", _short(str(value)) if key == "_target_" else str(value)


def _mapping(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = config.get(key)
    return found if isinstance(found, Mapping) else {}


def _short(target: str) -> str:
    return target.rpartition(".")[2]
