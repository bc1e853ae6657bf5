"""Base class of the weightings that an objective can use."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from lossframe.losses.base.state import WideState
from lossframe.objectives.progress import Progress
from lossframe.objectives.weighting.weights import Weights


class Weighting(WideState):
    """Abstract base: combines the terms of an objective, one scalar each, into its total.

    The constructor receives the current weights by term, which the user and schedules set; a weighting decides what
    they mean. A subclass defines `weights(terms)`, the factor of each term, or `total(terms)` if the total is no
    weighted sum; the base class derives the other. The terms of a call are those that take part: not one of weight 0.
    State belongs into parameters and buffers, which are trained, moved, saved and restored with the objective, and is
    changed in place. All ranks call a weighting with the same values, and get the same weights.
    """

    needs_gramian: ClassVar[bool] = False
    """Whether `update` wants the Gramian of the terms' gradients, which takes a backward pass for each term."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.weights is Weighting.weights and cls.total is Weighting.total:
            raise TypeError(f"{cls.__name__} wants a method weights(terms) or total(terms)")

    def __init__(self, configured: Mapping[str, float]) -> None:
        super().__init__()
        self.configured = configured if isinstance(configured, Weights) else Weights(configured)

    def update(self, terms: Mapping[str, Tensor], gramian: Tensor | None, progress: Progress) -> None:
        """Learn from the terms of one training step, before it is weighed; does nothing by default.

        `gramian` `[k, k]` float64 holds the inner products of the terms' gradients, and is equal on all ranks.
        """

    def weights(self, terms: Mapping[str, Tensor]) -> Mapping[str, Tensor | float]:
        """Return the weight of each term: the derivative of the total with respect to the term."""
        with torch.inference_mode(False), torch.enable_grad():  # evaluations of Lightning are in inference mode
            leaves = {name: value.detach().clone().requires_grad_() for name, value in terms.items()}
            slopes = torch.autograd.grad(self.total(leaves), list(leaves.values()), allow_unused=True)
        return {name: torch.zeros(()) if s is None else s for name, s in zip(leaves, slopes, strict=True)}

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the total of the terms, a scalar."""
        weights = self.weights(terms)
        return torch.stack([weights[name] * value for name, value in terms.items()]).sum()

    @property
    def is_weighted_sum(self) -> bool:
        """Whether the total is the sum of the weighted terms."""
        return type(self).total is Weighting.total
