"""Computes the gradient norm of each step: per parameter within the step, combined for many steps at once."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lossframe import distributed
from lossframe.statistics.recorder import Recorder

_WAITING_STEPS = 64


class Step:
    """Optimiser step with the parameters that had a gradient; `norms` `[P]` holds one norm each after folding."""

    __slots__ = ("norms", "parameters", "scaled", "waiting")

    def __init__(self, parameters: Sequence[nn.Parameter], waiting: Sequence[Tensor], scaled: bool) -> None:
        self.parameters = parameters
        self.waiting = waiting
        self.scaled = scaled
        self.norms = torch.empty(0)


class GradientNorms:
    """Records the norm over all gradients of each step under "norm", over all ranks for sharded parameters."""

    def __init__(self) -> None:
        self.recorder = Recorder({})
        self._steps: list[Step] = []

    def note(self, parameters: Iterable[nn.Parameter], scaled: bool = False) -> Step | None:
        """Compute the norms of one step's gradients; None without any. Must be called on every rank.

        A gradient scaler overflows on purpose: the norm of a `scaled` step is recorded only where it is finite.
        """
        noted, gradients = [], []
        for parameter in parameters:
            gradient = parameter.grad
            if gradient is not None and gradient.layout == torch.strided:
                noted.append(parameter)
                gradients.append(gradient if type(gradient) is Tensor else _local(gradient))
        if not noted:
            return None
        step = Step(noted, torch._foreach_norm(gradients), scaled)
        self._steps.append(step)
        if len(self._steps) >= _WAITING_STEPS:
            self.fold()
        return step

    def fold(self) -> None:
        """Record the norms of all pending steps, without waiting for a device. Must be called on every rank."""
        alike: dict[tuple[int, ...], list[Step]] = defaultdict(list)
        for step in self._steps:
            alike[tuple(map(id, step.parameters))].append(step)
        self._steps = []
        for steps in alike.values():
            norms = torch.stack([norm for step in steps for norm in step.waiting]).float().view(len(steps), -1)
            norms = _of_all_ranks(norms, steps[0].parameters)
            norm = torch.linalg.vector_norm(norms, dim=1)
            counted = norm.isfinite() if steps[0].scaled else None
            self.recorder.accumulate("norm", norm, counted, replicated=True)
            for step, row in zip(steps, norms.unbind(), strict=True):
                step.norms, step.waiting = row, ()


def _of_all_ranks(norms: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Combine the norms of sharded gradients over the ranks; the norms of other gradients are complete already."""
    whole = [not hasattr(parameter, "to_local") for parameter in parameters]
    if all(whole):
        return norms
    counted = norms.new_tensor(whole).mul_(1 / distributed.world_size() - 1).add_(1)
    return distributed.total(norms.square() * counted).sqrt()


def _local(gradient: Any) -> Tensor:
    return gradient.to_local() if hasattr(gradient, "to_local") else gradient  # type: ignore[no-any-return]
