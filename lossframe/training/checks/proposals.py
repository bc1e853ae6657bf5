"""Proposes choices that mend a command: each was tried before it is named."""

from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from pkgutil import resolve_name
from typing import Any, cast

import torch
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lossframe import configs
from lossframe.errors import InputError
from lossframe.training.checks import composed, model_contract, provision, signatures
from lossframe.training.configuration import composition, data_facts, variants


def instead_of(key: str, config: DictConfig) -> str:
    """Return which choices mend a key that reads another key which the configuration lacks."""
    group = key.partition(".")[0]
    reads = [entry for wired in config.inputs.values() for entry in (wired or {}).values()]
    tried = ["experiment", group, f"{group} with experiment"] if group in configs.groups() else ["experiment"]
    if hasattr(data := _tried_data(OmegaConf.to_yaml(config.data, resolve=True)), "facts"):
        data.facts()  # an error of the data itself comes first
    return first_working(tried, reads) or f"choose another {group}, or set {key}=VALUE"


def first_working(groups: Iterable[str], reads: Collection[str]) -> str | None:
    """Return the choices of the first group that mend the command, as `add A or B`; each was tried. None if none does.

    `GROUP with experiment` tries each experiment together with its own choice of a group. Of experiments, those are
    named that are for the chosen data, or else for any, and whose own losses read most of the entries in `reads`.
    """
    for group in groups:
        working = [overrides for overrides in _candidates(group) if _works(overrides)]
        if group.endswith("experiment"):
            fit = {overrides[0]: _fit(overrides[0], reads) for overrides in working}
            working = [overrides for overrides in working if fit[overrides[0]] == max(fit.values())]
        if working:
            listed = " or ".join(" ".join(overrides) for overrides in working)
            return f"{'add' if group.endswith('experiment') else 'choose'} {listed}"
    return None


def without_left_over(keys: list[str], config: DictConfig) -> str:
    """Return the first overrides that mend keys which name no term, as `Add A`, of those that were tried."""
    absent = ",".join(dict.fromkeys(key.partition(".")[2] for key in keys))
    all_terms = ",".join([*map(str, config.loss), absent])
    candidates = [[f"~{key}" for key in keys], [f"loss=[{all_terms}]"], [f"loss=[{absent}]"]]
    working = (f"Add {' '.join(candidate)}" for candidate in candidates if _works(candidate))
    return next(working, "Remove the keys, or choose a loss for them")


def _candidates(group: str) -> Iterator[list[str]]:
    """Yield overrides that choose each member of a group, or each experiment with its own choice of a group."""
    group, _, together = group.partition(" with ")
    if together and not (variants.is_command() and variants.is_typed(group)):
        return  # the experiment's own choice of the group has been tried
    for choice in variants.choices(together or group):
        own = [f"{group}={variants.choice_of(choice, group)}"] if together else []
        yield [f"{together or group}={choice}", *own]


def _fit(experiment: str, reads: Collection[str]) -> tuple[int, int]:
    """Return whether an override chooses the command's data (2), or none (1), and how many entries its losses read."""
    inputs = variants.composed([experiment], after_own=False).inputs
    shared = {entry for wired in inputs.values() for entry in (wired or {}).values()} & set(reads)
    chosen = variants.choice_of(experiment.partition("=")[2], "data")
    if not variants.is_typed("data"):
        return 0, len(shared)
    return 2 * (chosen == variants.choice("data")) or int(chosen == variants.default("data")), len(shared)


@lru_cache(maxsize=4)
def _tried_data(text: str) -> Any:
    """Make the data of a configuration, as YAML, once for all choices that are tried with it."""
    return instantiate(OmegaConf.create(text))


def _works(overrides: list[str]) -> bool:
    """Return whether the command could be trained with further overrides; False without a command."""
    if not variants.is_command():
        return False
    try:
        config = variants.composed(overrides)
        return _fits(config) and _evaluates(composition.prepared(config))
    except (HydraException, OmegaConfBaseException):
        return False


def _evaluates(config: DictConfig) -> bool:
    """Return whether objective and metrics accept one batch: entries of a right name may have a wrong shape."""
    metrics = instantiate(config.metrics, _convert_="all")
    with torch.random.fork_rng(devices=[]):
        try:
            data = _tried_data(OmegaConf.to_yaml(config.data, resolve=True))
            data_facts.fill(config, data)
            objective = provision.objective_of(config)
            reads = objective.reads.union(*(metric["reads"] for metric in metrics.values()))
            made = model_contract.build(config.model, reads)
            objective.bind(made)
            data.setup()
            batch = next(iter(data.train_dataloader()))
            frame = {**batch, **made(batch)}
            objective(frame)
            for metric in metrics.values():
                metric["metric"].update(*[frame[entry] for entry in metric["reads"]])
                metric["metric"].compute()
        except Exception:  # whatever it is, what fails is not proposed
            return False
    return True


def _fits(config: DictConfig) -> bool:
    """Return whether a composed configuration can be trained, as far as its parts can be made."""
    try:
        config = composition.prepared(config)
        data = _tried_data(OmegaConf.to_yaml(config.data, resolve=True))
        data_facts.fill(config, data)
        values = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
        composed.check_seed(config.seed)
        signatures.check(config)
        objective = provision.objective_of(config)
        callbacks = list(instantiate(config.callbacks, _convert_="all").values())
        provision.check_heads(config.model, objective, callbacks)
        providers = [data, resolve_name(values["model"]["_target_"])]
    except (InputError, HydraException, OmegaConfBaseException):
        return False
    return next(provision.unprovided(objective, values["metrics"], providers, callbacks), None) is None
