"""Base class of losses that penalise the parameters of a model instead of its output."""

from abc import abstractmethod
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from lossframe.errors import InputError, names
from lossframe.losses.base.inputs import at_least_float32
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.options import LossOptions

_NORMALISATIONS = (
    nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm,
)  # fmt: skip


class Penalty(Loss):
    """Abstract base of penalties: computes a loss from the parameters of a model, and reads no entry of a frame.

    Calling the penalty with a model gives its value. `bind(model)` fixes the model, as a `Learner` does once for its
    objective. `pattern` is a glob on parameter names; by default the parameters named `weight` of all modules except
    normalisations are penalised. A parameter that modules share is penalised once. Every rank holds the same
    parameters, so that value and gradient need no communication.
    """

    relational = True

    def __init__(self, pattern: str | None = None, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.pattern = pattern
        self._owners: list[tuple[nn.Module, str]] = []

    @abstractmethod
    def penalty(self, parameters: Sequence[Tensor]) -> Tensor:
        """Return the penalty of parameters in float32 or better, as a scalar."""

    def bind(self, model: nn.Module) -> None:
        """Choose the model whose matching parameters are penalised."""
        self._owners = [
            (module, name)
            for prefix, module in model.named_modules()
            for name, _ in module.named_parameters(recurse=False)
            if self._matches(module, f"{prefix}.{name}" if prefix else name, name)
        ]
        if not self._owners:
            wanted = f"parameters like {self.pattern!r}" if self.pattern else "parameters named 'weight'"
            found = names(name for name, _ in model.named_parameters())
            raise InputError(f"{type(self).__name__}: wanted {wanted}, found {found}")

    def forward(self, *models: Any, weight: Tensor | float | None = None, **kwargs: Any) -> Tensor:
        """Return the penalty of the model in the call, or else of the bound model."""
        for model in models:
            self.bind(model)
        return super().forward(weight=weight, **kwargs)

    def loss(self) -> Tensor:
        """Return the penalty of the bound model, as a scalar."""
        if not self._owners:
            raise InputError("penalises a model's parameters; call it with the model, or bind(model) it first")
        parameters = [getattr(module, name) for module, name in self._owners]
        distinct = {id(parameter): parameter for parameter in parameters}.values()
        return self.penalty([at_least_float32(parameter) for parameter in distinct])

    def _matches(self, module: nn.Module, path: str, name: str) -> bool:
        if self.pattern is not None:
            return fnmatchcase(path, self.pattern)
        return name == "weight" and not isinstance(module, _NORMALISATIONS)


def total(values: Sequence[Tensor]) -> Tensor:
    """Sum scalars, after collecting those of sharded parameters from all ranks."""
    return torch.stack([_full(value) for value in values]).sum()


def _full(value: Any) -> Tensor:
    whole: Tensor = value.full_tensor() if hasattr(value, "full_tensor") else value
    return whole
