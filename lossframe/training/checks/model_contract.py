"""Makes the model that a configuration describes, and checks what it returns."""

import inspect
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from lossframe.errors import InputError, names
from lossframe.objectives.objective import Objective
from lossframe.objectives.wiring import Frame, is_required
from lossframe.training.checks import targets


def build(config: DictConfig, heads: Collection[str]) -> nn.Module:
    """Make a model from its configuration, with `heads`, the entries that are read, if its constructor takes them.

    `heads` that the configuration sets itself hold. Anything other than an `nn.Module` is an `InputError`.
    """
    model: Any = instantiate(config, **({"heads": sorted(heads)} if takes_heads(config) else {}))
    if not isinstance(model, nn.Module):
        raise InputError(
            f"model: wanted a torch.nn.Module, found {type(model).__name__}; set model._target_ to a class of modules"
        )
    return model


def takes_heads(config: DictConfig) -> bool:
    """Return whether a model's constructor has a parameter `heads`, which its configuration does not set.

    The `**kwargs` of a constructor stand for the parameters of its next base class.
    """
    if "heads" in config:
        return False
    target: Any = targets.located("model", config._target_)
    for owner in inspect.getmro(target) if inspect.isclass(target) else [target]:
        made = owner.__dict__.get("__init__") if inspect.isclass(owner) else owner
        if made is None:
            continue
        parameters = inspect.signature(made).parameters
        if "heads" in parameters:
            return True
        if owner is nn.Module or not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
            return False
    return False


def entries_of(model: nn.Module, batch: Any) -> dict[str, Any]:
    """Call a model with a batch and return its entries; an `InputError` if either is no mapping from names."""
    name = type(model).__name__
    if not isinstance(batch, Mapping):
        raise InputError(
            f"{name} reads a batch: wanted a mapping from names to tensors, found {type(batch).__name__}; let the data "
            "loader return a dict, as {'image': ..., 'labels': ...}"
        )
    entries: Any = model(batch)
    if not isinstance(entries, Mapping):
        raise InputError(
            f"{name}.forward: wanted a mapping from names to tensors, found {type(entries).__name__}; return "
            "{'logits': ...}, or name what it returns by model=module"
        )
    return dict(entries)


def check_frame(objective: Objective, model: nn.Module, batch: Frame, entries: Frame) -> None:
    """Raise an `InputError` unless batch and model give what the terms read, with as many rows as the batch has.

    An entry without dimensions belongs to no sample.
    """
    frame, name = {**batch, **entries}, type(model).__name__
    for term, reads in _read(objective):
        loss = f"term {term!r} ({type(objective.losses[term]).__name__})"
        missing = [entry for entry in reads.values() if entry not in frame]
        if missing and term in objective.optional:
            continue
        if missing:
            keys = " ".join(f"inputs.{term}.{parameter}=ENTRY" for parameter in reads if reads[parameter] in missing)
            raise InputError(
                f"{loss} reads {names(missing)}, but {name} gave {names(entries)}, and the batch {names(batch)}; "
                f"return {missing[0]!r} from the model, or choose entries by {keys}"
            )
        found = [(entry, len(frame[entry])) for entry in reads.values() if _is_batched(frame[entry])]
        rows = [len(batch[entry]) for entry in reads.values() if entry in batch and _is_batched(batch[entry])]
        if wrong := [each for each in found if each[0] in entries and rows and each[1] != rows[0]]:
            entry, length = wrong[0]
            raise InputError(
                f"{loss} reads {entry!r} with {length} rows from {name}, but the batch has {rows[0]} samples; the "
                "first dimension of what a model returns is that of the batch"
            )


def normalises_own_samples(module: nn.Module) -> bool:
    """Return whether a module is a batch normalisation that sees one rank's samples only."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and not isinstance(module, nn.SyncBatchNorm)


def _read(objective: Objective) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each term with the entries that it needs, parameter -> entry."""
    for term, loss in objective.named_losses():
        wired = objective.inputs[term]
        yield term, {parameter: entry for parameter, entry in wired.items() if is_required(loss, parameter, entry)}


def _is_batched(entry: Any) -> bool:
    return isinstance(entry, Tensor) and entry.ndim > 0
