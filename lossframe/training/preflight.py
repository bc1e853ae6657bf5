"""Checks a configuration before it is trained: numbers are numbers, and data and model provide what is read."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from pkgutil import resolve_name
from typing import Any, NamedTuple, cast

import torch
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lossframe import configs
from lossframe.errors import InputError, names
from lossframe.objectives.objective import Objective
from lossframe.objectives.terms import left_over, no_term
from lossframe.objectives.wiring import is_required
from lossframe.training import composition, data_facts, model_contract, signatures, variants

Metrics = Mapping[str, Mapping[str, Any]]


class Problem(NamedTuple):
    """A reader of entries that are not provided: their names, those that are, and the keys that choose others."""

    reader: str
    missing: list[str]
    provided: frozenset[str]
    keys: str


def check_seed(seed: Any) -> None:
    """Raise an `InputError` if a seed is out of range."""
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise InputError(f"seed={seed}: wanted a whole number from 0 to {2**32 - 1}")


def data_of(config: DictConfig) -> Any:
    """Make the data of a prepared configuration, and fill in there what the data says of itself.

    Raises an `InputError` if groups or values do not fit, with or without what was filled in.
    """
    check_composition(config)
    signatures.check(config, "data" if data_facts.awaits(config) else None)
    data = instantiate(config.data)
    if data_facts.awaits(config):
        data_facts.fill(config, data)
        check_composition(config)
        signatures.check(config)
    return data


def check_entries(
    objective: Objective, metrics: Metrics, data: object, model: object, callbacks: Iterable[object] = ()
) -> None:
    """Raise an `InputError` that names a choice to make, unless `data` and `model` provide all entries that are read.

    Both list their entries of the frame in an attribute `provides`. If one has no such attribute, nothing is checked.
    """
    problem = next(unprovided(objective, metrics, (data, model), callbacks), None)
    if problem is None:
        return
    neither = f"which {type(data).__name__} and {type(model).__name__} do not give"
    tried = ["metrics"] if problem.reader.startswith("metric ") else ["experiment"]
    hint = _proposal([*tried, "metrics with experiment"], objective.reads)
    hint = hint or f"choose among {names(sorted(problem.provided))} by {problem.keys}"
    raise InputError(f"{problem.reader} reads {names(problem.missing)}, {neither}; {hint}")


def unprovided(
    objective: Objective, metrics: Metrics, providers: Iterable[object], callbacks: Iterable[object] = ()
) -> Iterator[Problem]:
    """Yield each term, metric and callback that reads entries which no provider lists in its attribute `provides`."""
    provided: list[Any] = [getattr(provider, "provides", None) for provider in providers]
    if None in provided:
        return
    entries = frozenset[str]().union(*provided)
    for term, loss in objective.named_losses():
        wired = {p: e for p, e in objective.inputs[term].items() if is_required(loss, p, e) and e not in entries}
        if wired:
            keys = " ".join(f"inputs.{term}.{parameter}=ENTRY" for parameter in wired)
            yield Problem(type(loss).__name__, list(wired.values()), entries, keys)
    for name, metric in metrics.items():
        if missing := [entry for entry in metric["reads"] if entry not in entries]:
            yield Problem(f"metric {name!r}", missing, entries, f"metrics.{name}.reads=[ENTRY,...], or metrics=[]")
    for callback in callbacks:
        if missing := sorted(reads_of(callback) - entries):
            yield Problem(type(callback).__name__, missing, entries, "callbacks.NAME.PARAMETER=ENTRY, or leave it out")


def check_heads(model: DictConfig, objective: Objective, callbacks: Iterable[object]) -> None:
    """Raise an `InputError` if a callback alone would add layers to the model, which no loss would train.

    Models that are built here, with heads for some entries or others, have neither memory nor values.
    """
    if not model_contract.takes_heads(model):
        return
    trained = frozenset[str]().union(
        *(objective.inputs[term].values() for term in objective.losses if objective.weights[term])
    )
    for callback in callbacks:
        for entry in sorted(reads_of(callback) - trained):
            with torch.random.fork_rng(devices=[]), torch.device("meta"):
                built = [model_contract.build(model, heads) for heads in (trained, trained | {entry})]
            sizes = [len(list(each.parameters())) for each in built]
            if sizes[1] > sizes[0]:
                raise InputError(
                    f"{type(callback).__name__} reads {entry!r} of layers that no loss trains: add a loss that reads "
                    f"{entry!r}, choose another entry by callbacks.NAME.PARAMETER=ENTRY, or leave the callback out"
                )


def reads_of(callback: object) -> frozenset[str]:
    """Return the entries of the frame that a callback reads: its attribute `reads`, or nothing."""
    return getattr(callback, "reads", frozenset())


def check_composition(config: DictConfig) -> None:
    """Raise an `InputError` that names a choice to make, if groups do not fit: keys or terms are missing."""
    if key := composition.unresolved(config):
        raise InputError(f"{key} reads a key that the configuration lacks; {instead_of(key, config)}")
    keyed = [config[key] if isinstance(config[key], Mapping) else {} for key in ("loss", "weights", "inputs")]
    if keyed[0] and (keys := left_over(*keyed)):
        raise InputError(f"{no_term(keys, config.loss)} {_without_left_over(keys, config)}")


def instead_of(key: str, config: DictConfig) -> str:
    """Return which choices mend a key that reads another key which the configuration lacks."""
    group = key.partition(".")[0]
    reads = [entry for wired in config.inputs.values() for entry in (wired or {}).values()]
    tried = ["experiment", group, f"{group} with experiment"] if group in configs.groups() else ["experiment"]
    if hasattr(data := _tried_data(OmegaConf.to_yaml(config.data, resolve=True)), "facts"):
        data.facts()  # an error of the data itself comes first
    return _proposal(tried, reads) or f"choose another {group}, or set {key}=VALUE"


def fits(config: DictConfig) -> bool:
    """Return whether a composed configuration can be trained, as far as the checks of this module know."""
    try:
        config = composition.prepared(config)
        data = _tried_data(OmegaConf.to_yaml(config.data, resolve=True))
        data_facts.fill(config, data)
        values = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
        check_seed(config.seed)
        signatures.check(config)
        objective = objective_of(config)
        callbacks = list(instantiate(config.callbacks, _convert_="all").values())
        check_heads(config.model, objective, callbacks)
        providers = [data, resolve_name(values["model"]["_target_"])]
    except (InputError, HydraException, OmegaConfBaseException):
        return False
    return next(unprovided(objective, values["metrics"], providers, callbacks), None) is None


def objective_of(config: DictConfig) -> Objective:
    """Build the objective that a prepared configuration describes."""
    losses = instantiate(config.loss, _convert_="all")
    return Objective(losses, config.weights, config.inputs, instantiate(config.weighting, _partial_=True))


def _proposal(groups: Iterable[str], reads: Collection[str]) -> str | None:
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


def _without_left_over(keys: list[str], config: DictConfig) -> str:
    """Return the first overrides that mend keys which name no term, as `Add A`, of those that were tried."""
    absent = ",".join(dict.fromkeys(key.partition(".")[2] for key in keys))
    all_terms = ",".join([*map(str, config.loss), absent])
    candidates = [[f"~{key}" for key in keys], [f"loss=[{all_terms}]"], [f"loss=[{absent}]"]]
    working = (f"Add {' '.join(candidate)}" for candidate in candidates if _works(candidate))
    return next(working, "Remove the keys, or choose a loss for them")


def _works(overrides: list[str]) -> bool:
    """Return whether the command could be trained with further overrides; False without a command."""
    if not variants.is_command():
        return False
    try:
        config = variants.composed(overrides)
        return fits(config) and _evaluates(composition.prepared(config))
    except (HydraException, OmegaConfBaseException):
        return False


def _evaluates(config: DictConfig) -> bool:
    """Return whether objective and metrics accept one batch: entries of a right name may have a wrong shape."""
    metrics = instantiate(config.metrics, _convert_="all")
    with torch.random.fork_rng(devices=[]):
        try:
            data = _tried_data(OmegaConf.to_yaml(config.data, resolve=True))
            data_facts.fill(config, data)
            objective = objective_of(config)
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
