"""Whether the chosen data and model give what losses and metrics read; and if not, which other choices would."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

from lossframe import configs
from lossframe.errors import InputError, names
from lossframe.objectives.objective import Objective

Metrics = Mapping[str, Mapping[str, Any]]


def check(
    objective: Objective, metrics: Metrics, data: object, model: object, callbacks: Iterable[object] = ()
) -> None:
    """Raise an `InputError` that names a choice to make, unless `data` and `model` give all that is read.

    They say what they give by an attribute `provides`, a set of entries. Where one says nothing, nothing is checked.
    """
    provided: list[Any] = [getattr(giver, "provides", None) for giver in (data, model)]
    if None in provided:
        return
    given = frozenset[str]().union(*provided)
    neither = f"{type(data).__name__} and {type(model).__name__} do not give"
    for loss, reads in _readers(objective):
        if missing := [entry for entry in reads if entry not in given]:
            found = experiments(objective.reads)
            other = f"no experiment does: choose among {names(sorted(given))} by inputs.TERM.PARAMETER=ENTRY"
            hint = f"add {' or '.join(f'experiment={name}' for name in found)}" if found else other
            raise InputError(f"{loss} reads {names(missing)}, which {neither}; {hint}")
    for metric, content in metrics.items():
        if missing := [entry for entry in content["reads"] if entry not in given]:
            hint = " or ".join(f"metrics={name}" for name in _metrics(given)) or "others"
            raise InputError(f"metric {metric!r} reads {names(missing)}, which {neither}; choose {hint}")
    for callback in callbacks:
        if missing := [entry for entry in sorted(reads_of(callback)) if entry not in given]:
            hint = f"choose among {names(sorted(given))} by callbacks.NAME.PARAMETER=ENTRY, or leave it out"
            raise InputError(f"{type(callback).__name__} reads {names(missing)}, which {neither}; {hint}")


def reads_of(callback: object) -> frozenset[str]:
    """Return the entries that a callback reads, its attribute `reads`; none where it has none."""
    return getattr(callback, "reads", frozenset())


def experiments(reads: Collection[str]) -> list[str]:
    """Return the experiments that give all these entries: those whose own losses read most of them."""
    shared = {name: len(_read_by(name) & set(reads)) for name in configs.choices("experiment")}
    found = [name for name in shared if _given_by(name).issuperset(reads)]
    return [name for name in found if shared[name] == max(shared[other] for other in found)]


def _readers(objective: Objective) -> Iterator[tuple[str, list[str]]]:
    for term, loss in objective.named_losses():
        yield type(loss).__name__, [e for p, e in objective.inputs[term].items() if p not in loss.optional]


def _metrics(given: Collection[str]) -> list[str]:
    needs = {name: configs.read(f"metrics/{name}")["metrics"].values() for name in configs.choices("metrics")}
    return [name for name, metrics in needs.items() if all(set(m["reads"]) <= set(given) for m in metrics)]


def _read_by(experiment: str) -> set[str]:
    terms = _chosen(experiment)["loss"]
    files = [configs.read(f"loss/{term}") for term in ([terms] if isinstance(terms, str) else terms)]
    inputs = [file["inputs"] for file in [*files, configs.read(f"experiment/{experiment}")] if "inputs" in file]
    return {entry for wiring in inputs for entries in wiring.values() for entry in entries.values() if entry}


def _given_by(experiment: str) -> frozenset[str]:
    chosen = _chosen(experiment)
    targets = [configs.read(f"{group}/{chosen[group]}")["_target_"].rpartition(".") for group in ("data", "model")]
    return frozenset[str]().union(*(getattr(import_module(module), name).provides for module, _, name in targets))


def _chosen(experiment: str) -> dict[str, Any]:
    defaults = [*configs.read("train")["defaults"], *configs.read(f"experiment/{experiment}").get("defaults", [])]
    items = [item for default in defaults if isinstance(default, dict) for item in default.items()]
    return {group.removeprefix("override /"): choice for group, choice in items}
