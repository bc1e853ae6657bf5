"""Measures whether a loss in `NativeLoss` gives what the library's own gives, on one process and on two ranks."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from conformance.case import Case, N
from lossframe import NativeLoss, drain

SHARDS = (9, 3)
"""Samples of each rank."""


class Found(NamedTuple):
    """Value of a batch, its gradients by the inputs and by the loss's parameters, and the mean that was recorded."""

    value: Tensor
    inputs: list[Tensor]
    parameters: list[Tensor]
    mean: float = 0.0
    per_sample: bool = False


def own(case: Case) -> Found:
    """Return what the library gives, called directly; the mean of values, if it returns unreduced ones."""
    loss, inputs = case.made(), case.shard(slice(N))
    torch.manual_seed(2)
    result = loss(*inputs)
    value = result if isinstance(result, Tensor) else result.loss
    return _found(value.mean(), loss, inputs)


def wrapped(case: Case, rows: slice) -> Found:
    """Return what `NativeLoss` gives on this rank's samples."""
    loss, inputs = case.made(), case.shard(rows)
    criterion = NativeLoss(loss, log_std=True, **case.options)
    torch.manual_seed(2)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        value = criterion(*inputs)
    single = any("batch means" in str(each.message) for each in told)
    found = _found(value, criterion, inputs)
    return found._replace(mean=drain({"loss": criterion})["loss"]["loss"].mean, per_sample=not single)


def _found(value: Tensor, loss: Any, inputs: Sequence[Any]) -> Found:
    leaves = [leaf for leaf in inputs if isinstance(leaf, Tensor) and leaf.requires_grad]
    of_loss = [p for p in loss.parameters() if p.requires_grad] if isinstance(loss, nn.Module) else []
    gradients = torch.autograd.grad(value, [*leaves, *of_loss], allow_unused=True)
    filled = [torch.zeros_like(x) if g is None else g for x, g in zip([*leaves, *of_loss], gradients, strict=True)]
    return Found(value.detach(), filled[: len(leaves)], filled[len(leaves) :])


def on_rank(rank: int, case: Case) -> Found | str:
    """Return what a case gives on this rank's shard, or the message of an error."""
    try:
        return wrapped(case, slice(sum(SHARDS[:rank]), sum(SHARDS[: rank + 1])))
    except Exception as error:
        return f"{type(error).__name__}: {error}".replace("\n", " ")


def same(one: Found, other: Found) -> bool:
    """Return whether two processes give one value, and the same gradients."""
    pairs = [(one.value, other.value), *zip(one.inputs + one.parameters, other.inputs + other.parameters, strict=True)]
    return all(torch.allclose(a, b, rtol=1e-5, atol=1e-8) for a, b in pairs)


def together(case: Case, ranks: Sequence[Found]) -> Found:
    """Return what data parallelism makes of the gradients of all ranks: their average; of inputs, the rows of each."""
    dims = [case.batch_dims[min(k, len(case.batch_dims) - 1)] for k in _floating(case)]
    number = len(ranks)
    shards = zip(*(each.inputs for each in ranks), strict=True)
    inputs = [torch.cat(rows, dim) / number for rows, dim in zip(shards, dims, strict=True)]
    parameters = [torch.stack(each).mean(0) for each in zip(*(r.parameters for r in ranks), strict=True)]
    return ranks[0]._replace(inputs=inputs, parameters=parameters)


def _floating(case: Case) -> list[int]:
    return [k for k, x in enumerate(case.shard(slice(N))) if isinstance(x, Tensor) and x.requires_grad]
