"""Prepares the inputs of one call of a loss: binds them to names, converts dtypes and gathers them from all ranks."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lossframe import distributed
from lossframe.errors import InputError, names
from lossframe.losses.base import annotations
from lossframe.losses.base.tracing import is_mapped, is_readable, is_transformed
from lossframe.statistics.accumulator import as_counts

if TYPE_CHECKING:
    from lossframe.losses.base.loss import Loss
    from lossframe.losses.base.per_sample import PerSample

_WIDE = frozenset([torch.float64, torch.float32, torch.int64, torch.bool])
"""Dtypes in which losses compute; other real inputs are converted to one of them."""


@dataclass(slots=True)
class Batch:
    """Inputs of one call of a loss, name -> value, with their weight and the samples that they belong to.

    `own` is this rank's slice of the samples of all ranks. `kept` `[N]` marks those samples of a relational loss that
    have a weight other than 0; None without a weight per sample. `counts` is the result of `Loss.counts`, and `count`
    the caller's number of values that each value stands for.
    """

    inputs: dict[str, Any]
    weight: Tensor | float | None
    device: str
    on_cpu: bool
    kept: Tensor | None = None
    own: slice | None = None
    counts: Tensor | None = None
    count: Tensor | float | None = None

    @property
    def may_leave_out(self) -> bool:
        """Whether a weight of 0 or a count of 0 may exclude values from the result."""
        return self.counts is not None or isinstance(self.weight, Tensor) or self.weight == 0


def received(loss: "Loss", args: tuple[Any, ...], kwargs: dict[str, Any], weight: Any) -> Batch:
    """Return this rank's batch of a call: inputs bound to the names that the loss reads, in wide dtypes.

    A keyword `count` is the number of values that each value stands for, unless the loss reads an entry of this name.
    """
    count = kwargs.pop("count", None) if "count" not in loss.reads else None
    inputs = bind(loss.reads, loss.optional, args, _renamed(kwargs, loss.synonyms) if loss.synonyms else kwargs)
    annotations.check(loss, inputs)
    tensors = leaves(inputs.values())
    refuse_vmap([*tensors, weight] if isinstance(weight, Tensor) else tensors)
    device = tensors[0].device.type if tensors else "cpu"
    on_cpu = device == "cpu" and all(tensor.is_cpu for tensor in tensors)
    weight = weight_as_tensor(weight, tensors)
    if count is not None:
        count = 1.0 if (given := as_counts(count)) is None else given
    return Batch(converted(inputs, tensors, loss.class_inputs), weight, device, on_cpu, count=count)


def of_all_ranks(batch: Batch, samples: "PerSample | None") -> Batch:
    """Return the batch of all ranks for a relational loss; keep the sum of each own sample's inputs in `samples`."""
    weight = weight_of_samples(batch.inputs, batch.weight)
    if samples is not None:
        samples.keep_inputs(batch.inputs)
    if distributed.world_size() == 1:
        return replace(batch, weight=weight)
    inputs, weight, own = gather(batch.inputs, weight)
    return replace(batch, inputs=inputs, weight=weight, own=own)


def without_left_out(batch: Batch) -> Batch:
    """Drop the samples of weight 0, so that no other sample is compared with them."""
    weight = batch.weight
    if not (isinstance(weight, Tensor) and weight.ndim):
        return batch
    kept = weight != 0
    inputs: dict[str, Any] = pytree.tree_map(lambda leaf: leaf[kept] if _is_batched(leaf) else leaf, batch.inputs)
    return replace(batch, inputs=inputs, weight=weight[kept], kept=kept)


def bind(
    reads: tuple[str, ...], optional: Collection[str], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Return the inputs by the names in `reads`, or raise an `InputError` that lists missing and unknown names."""
    if len(args) > len(reads):
        raise InputError(f"reads {names(reads)}, but {len(args)} positional inputs were given")
    inputs = dict(zip(reads, args, strict=False)) | kwargs
    missing = [name for name in reads if name not in inputs and name not in optional]
    unknown = [name for name in inputs if name not in reads]
    if missing or unknown or len(inputs) < len(args) + len(kwargs):
        raise InputError(f"reads {names(reads)}; it was given {names([*reads[: len(args)], *kwargs])}")
    return inputs


def _renamed(kwargs: dict[str, Any], synonyms: Mapping[str, str]) -> dict[str, Any]:
    """Return inputs by the names that a loss reads, where they were given by synonyms."""
    renamed = {synonyms.get(name, name): value for name, value in kwargs.items()}
    if len(renamed) < len(kwargs):
        raise InputError(f"was given one input under two names: {names(kwargs)}; {dict(synonyms)} are synonyms")
    return renamed


def leaves(inputs: Collection[Any]) -> list[Tensor]:
    """Return the tensors among the inputs, also inside lists and dicts, in order."""
    found: list[Tensor] = []
    for value in inputs:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple, dict)):
            return [leaf for leaf in pytree.tree_leaves(list(inputs)) if isinstance(leaf, Tensor)]
    return found


def converted(inputs: dict[str, Any], leaves: list[Tensor], labels: Iterable[str]) -> dict[str, Any]:
    """Return the inputs, whose tensors are `leaves`, in dtypes that lose nothing: float32 or better, int64, bool.

    Inputs named in `labels` hold classes: their bool values become 0 and 1.
    """
    if not _WIDE.issuperset([leaf.dtype for leaf in leaves]):
        inputs = pytree.tree_map_only(Tensor, widened, inputs)
    for name in labels:
        if isinstance(label := inputs.get(name), Tensor) and label.dtype == torch.bool:
            inputs = {**inputs, name: label.long()}
    return inputs


def widened(tensor: Tensor) -> Tensor:
    """Convert floats of less than 32 bits to float32 and integers to int64; return other tensors unchanged."""
    if tensor.is_floating_point():
        return at_least_float32(tensor)
    if tensor.dtype == torch.bool or tensor.is_complex():
        return tensor
    whole = tensor.long()
    if tensor.dtype == torch.uint64 and tensor.device.type == "cpu" and bool((whole < 0).any()):
        raise InputError("wanted integers below 2^63, found larger ones in a torch.uint64 input")
    return whole


def is_narrow(tensor: Tensor) -> bool:
    """Return whether a floating tensor has less than 32 bits."""
    return tensor.is_floating_point() and tensor.element_size() < 4


def at_least_float32(tensor: Tensor) -> Tensor:
    """Convert a floating tensor of less than 32 bits to float32; return other tensors unchanged."""
    return tensor.float() if is_narrow(tensor) else tensor


def real_values(values: object) -> Tensor:
    """Return the result of a formula in float32 or better; raise an `InputError` unless it is a real tensor."""
    if not isinstance(values, Tensor):
        raise InputError(f"wanted a tensor of values from loss(...), found {type(values).__name__}")
    if values.is_complex():
        raise InputError(f"wanted real values from loss(...), found {values.dtype}; take .abs() or .real of them")
    return at_least_float32(values)


def weight_as_tensor(weight: Any, leaves: list[Tensor]) -> Tensor | float | None:
    """Return a weight as None, a number or a floating tensor on the inputs' device, or raise an `InputError`."""
    if weight is None or isinstance(weight, int | float):
        return weight
    try:
        exact = None if isinstance(weight, Tensor) or hasattr(weight, "dtype") else torch.float64
        tensor: Tensor = torch.as_tensor(weight, dtype=exact, device=leaves[0].device if leaves else None)
    except (TypeError, ValueError, RuntimeError) as error:
        found = f"{type(weight).__name__} ({error})"
        raise InputError(f"wanted weight as a number, a tensor, an array or a list of numbers, found {found}") from None
    annotations.check_weight(tensor, leaves)
    return at_least_float32(tensor) if tensor.is_floating_point() else tensor.double()


def refuse_vmap(leaves: list[Tensor]) -> None:
    """Raise an `InputError` inside `torch.vmap`: the call of a loss reads and records values."""
    if is_transformed() and any(is_mapped(leaf) for leaf in leaves):
        raise InputError(
            "torch.vmap cannot map over the call of a loss, which checks and records values; map over "
            "`criterion.loss`, the pure function of the unreduced values"
        )


def tensors(inputs: dict[str, Any]) -> list[Tensor]:
    """Return the tensors with a batch dimension, in the order of the inputs."""
    return [leaf for leaf in leaves(inputs.values()) if leaf.ndim]


def size(inputs: Mapping[str, Any]) -> int:
    """Return the number of samples: the length of the first batched tensor, 0 without one."""
    first = first_batched(inputs)
    return 0 if first is None else len(first)


def first_batched(inputs: Mapping[str, Any]) -> Tensor | None:
    """Return the first tensor with a batch dimension, None without one."""
    for entry in inputs.values():
        if isinstance(entry, Tensor):
            if entry.ndim:
                return entry
        elif isinstance(entry, (list, tuple, dict)):
            for leaf in leaves([entry]):
                if leaf.ndim:
                    return leaf
    return None


def gather(inputs: dict[str, Any], weight: Tensor | float | None) -> tuple[dict[str, Any], Any, slice]:
    """Concatenate every batched tensor over the ranks; return inputs, weight and the slice of this rank's samples."""
    leaves, structure = pytree.tree_flatten((inputs, weight))
    gathered, own = distributed.gather([leaf for leaf in leaves if _is_batched(leaf)])
    whole = iter(gathered)
    result = pytree.tree_unflatten([next(whole) if _is_batched(leaf) else leaf for leaf in leaves], structure)
    return result[0], result[1], own


def weight_of_samples(inputs: dict[str, Any], weight: Tensor | float | None) -> Tensor | float | None:
    """Return the weight of a relational loss as None, a scalar or `[N]`; raise an `InputError` for a finer weight."""
    batched = tensors(inputs)
    if weight is None or not batched:
        return weight
    sizes = {len(tensor) for tensor in batched}
    if not isinstance(weight, Tensor):
        return weight if weight or len(sizes) > 1 else batched[0].new_zeros(len(batched[0]), dtype=torch.float64)
    if not weight.ndim:
        absent = len(sizes) == 1 and is_readable(weight) and not bool(weight)
        return weight.expand(len(batched[0])) if absent else weight
    if weight.shape == (1,) and len(sizes) == 1:
        return weight.expand(next(iter(sizes)))
    if sizes != {len(weight)} or weight.numel() != len(weight):
        found = " and ".join(str(list(tensor.shape)) for tensor in batched)
        raise InputError(f"wanted a scalar weight or one per sample, found {list(weight.shape)} for inputs {found}")
    return weight.reshape(-1)


def shares_memory(values: Tensor, others: Iterable[Tensor]) -> bool:
    """Return whether a tensor shares its storage with one of the others."""
    if is_transformed():
        return True  # torch.func hides the storage, so that sharing cannot be excluded
    storage = values.untyped_storage()._cdata
    return any(other.untyped_storage()._cdata == storage for other in others)


def _is_batched(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim > 0
