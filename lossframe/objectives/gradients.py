"""Computes the inner products of the terms' gradients at a place that they share."""

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lossframe import distributed
from lossframe.errors import InputError, names, nearest
from lossframe.objectives.wiring import Frame

PARAMETERS = "parameters"
"""The place that is the parameters which two or more terms share, instead of entries of the frame."""
_SCALE = 1024.0
"""Factor of values whose gradients pass through float16, which would round small ones to 0."""

Rows = list[tuple[Tensor | None, ...]]
"""Gradients of each term with respect to each tensor of the place; None where a term does not depend on it."""


class Gramian(NamedTuple):
    """Inner products `[k, k]` float64 of the gradients of named terms, over the batch of all ranks."""

    names: list[str]
    matrix: Tensor


class Place:
    """Differentiates terms at entries of the frame, or at the parameters of a model that terms share.

    `at` is "parameters", an entry, or a list of entries alone. Entries have a row per sample, and none is computed from
    another. At entries, each rank has the rows of its samples, and the Gramian of the batch of all ranks is the sum of
    those of the ranks: one collective of k x k numbers. At parameters, the ranks sum the gradients themselves.
    """

    def __init__(self, at: str | Sequence[str]) -> None:
        entries = [at] if isinstance(at, str) else at
        if not isinstance(entries, Sequence) or not entries or not all(isinstance(each, str) for each in entries):
            raise InputError(f"balance_at={at}: wanted 'parameters', an entry of the frame, or a list of entries")
        self.entries = [] if at == PARAMETERS else list(entries)  # a list of one may name an entry "parameters"
        self._owners: list[tuple[nn.Module, str]] = []
        self._warned = False

    def bind(self, model: nn.Module) -> None:
        """Choose the model whose parameters are the place, unless entries are."""
        if not self.entries:
            self._owners = [(m, name) for m in model.modules() for name, _ in m.named_parameters(recurse=False)]

    def gramian(self, terms: Mapping[str, Tensor], frame: Frame, penalties: Sequence[str] = ()) -> Gramian:
        """Return the Gramian of terms, equal on all ranks. The graph stays, for the backward pass of the total.

        A term that does not depend on the place has a row of 0, and is warned of once unless it is a penalty.
        """
        tensors = [self._entry(name, frame) for name in self.entries] or self._parameters()
        scale = _SCALE if _passes_float16(tensors) else 1.0
        rows: Rows = [_gradients(value, tensors, scale) for value in terms.values()]
        if not self.entries:
            shared = _shared(rows, tensors[0].device)
            rows, tensors = [tuple(row[p] for p in shared) for row in rows], [tensors[p] for p in shared]
        self._check([n for n, row in zip(terms, rows, strict=True) if all(g is None for g in row)], terms, penalties)
        matrix = _of_entries(rows) if self.entries else _of_parameters(rows, tensors)
        return Gramian(list(terms), matrix / scale**2)

    def _entry(self, name: str, frame: Frame) -> Tensor:
        """Return an entry of the frame that has a gradient and a row per sample."""
        entry = frame.get(name)
        key = f"balance_at={','.join(self.entries)}"
        differentiable = [str(n) for n, e in frame.items() if isinstance(e, Tensor) and e.requires_grad and e.ndim]
        if not isinstance(entry, Tensor):
            found = "no such entry" if entry is None else type(entry).__name__
            near = nearest(name, differentiable)
            raise InputError(f"{key}: wanted one of {names(differentiable)} for {name!r}, found {found}.{near}")
        if not entry.ndim or not entry.requires_grad:
            found = "one without a gradient" if entry.ndim else "a single number"
            raise InputError(f"{key}: wanted an entry of a row per sample with a gradient, found {name!r}, {found}; "
                             f"choose one of {names(differentiable)}")  # fmt: skip
        return entry

    def _parameters(self) -> list[Tensor]:
        """Return the trained parameters of the model, each once."""
        if not self._owners:
            raise InputError("balance_at=parameters: wanted a model; call objective.bind(model), as a Learner does")
        distinct = {id(p): p for p in (getattr(module, name) for module, name in self._owners) if p.requires_grad}
        if any(hasattr(parameter, "to_local") for parameter in distinct.values()):
            raise InputError("balance_at=parameters: wanted whole parameters, found those of FSDP, which are sharded; "
                             "choose an entry of the frame, as balance_at=features")  # fmt: skip
        return list(distinct.values())

    def _check(self, unreached: list[str], terms: Mapping[str, Tensor], penalties: Sequence[str]) -> None:
        """Raise an `InputError` if no term depends on the place; warn once of each that does not."""
        wrong = [name for name in unreached if name not in penalties]
        key = f"balance_at={','.join(self.entries) or PARAMETERS}"
        if wrong and len(unreached) == len(terms):
            raise InputError(f"{key}: none of the terms {names(terms)} depends on it; choose a place that comes "
                             "before what they read")  # fmt: skip
        if wrong and not self._warned and distributed.rank() == 0:
            warnings.warn(
                f"{key}: {names(wrong)} does not depend on it, so that nothing balances it, and it keeps its weight",
                stacklevel=2,
            )
        self._warned = True


def _gradients(value: Tensor, tensors: Sequence[Tensor], scale: float) -> tuple[Tensor | None, ...]:
    if not value.requires_grad:
        return tuple(None for _ in tensors)
    return torch.autograd.grad(value * scale if scale != 1 else value, tensors, retain_graph=True, allow_unused=True)


def _passes_float16(tensors: Sequence[Tensor]) -> bool:
    device = tensors[0].device.type
    autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
    return autocast or any(tensor.dtype == torch.float16 for tensor in tensors)


def _shared(rows: Rows, device: torch.device) -> list[int]:
    """Return the positions of the parameters that two or more terms reach, or the only term does, on any rank."""
    reached = torch.tensor([[g is not None for g in row] for row in rows], dtype=torch.float64, device=device)
    found = (distributed.total(reached) > 0).sum(0) >= min(2, len(rows))
    return found.nonzero().flatten().tolist()


def _products(rows: Rows) -> Tensor:
    """Return the inner products of rows, one tensor of the place after the other."""
    size = len(rows)
    device = next((g.device for row in rows for g in row if g is not None), torch.device("cpu"))
    matrix = torch.zeros(size, size, dtype=torch.float64, device=device)
    for column in zip(*rows, strict=True):
        there = [k for k, gradient in enumerate(column) if gradient is not None]
        if there:
            wide = torch.stack([g.reshape(-1) for g in column if g is not None]).double()
            matrix[torch.tensor(there)[:, None], torch.tensor(there)] += wide @ wide.T
    return matrix


def _of_entries(rows: Rows) -> Tensor:
    """Return the Gramian at rows of samples, each on its rank, where gradients are times the number of ranks."""
    return distributed.total(_products(rows)) / distributed.world_size() ** 2


def _of_parameters(rows: Rows, parameters: Sequence[Tensor]) -> Tensor:
    """Return the Gramian at parameters, whose gradients the ranks average."""
    ranks = distributed.world_size()
    if ranks == 1 or not parameters:
        return _products(rows)
    whole = [torch.cat([_flat(g, p) for g, p in zip(row, parameters, strict=True)]) for row in rows]
    return _products([(row,) for row in distributed.total(torch.stack(whole)) / ranks])


def _flat(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter).detach().reshape(-1) if gradient is None else gradient.reshape(-1)
