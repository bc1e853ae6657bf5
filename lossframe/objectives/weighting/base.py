"""Base class of the weightings that an objective can use."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lossframe.objectives.weighting.weights import Weights


class Weighting(nn.Module):
    """Abstract base: combines the terms of an objective, one scalar each, into its total.

    The constructor receives the configured weights by term. A subclass defines `weights(terms)`, the factor of each
    term, or `total(terms)` if the total is no weighted sum; the base class derives the other. State belongs into
    parameters and buffers, which are trained, moved, saved and restored with the objective. All ranks call a weighting
    with the same values, and get the same weights.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.weights is Weighting.weights and cls.total is Weighting.total:
            raise TypeError(f"{cls.__name__} wants a method weights(terms) or total(terms)")

    def __init__(self, configured: Mapping[str, float]) -> None:
        super().__init__()
        self.configured = Weights(configured)

    def weights(self, terms: Mapping[str, Tensor]) -> Mapping[str, Tensor | float]:
        """Return the weight of each term: the derivative of the total with respect to the term."""
        leaves = {name: value.detach().requires_grad_() for name, value in terms.items()}
        with torch.enable_grad():
            total = self.total(leaves)
        slopes = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
        return {name: torch.zeros(()) if s is None else s for name, s in zip(leaves, slopes, strict=True)}

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the total of the terms, a scalar."""
        weights = self.weights(terms)
        return torch.stack([weights[name] * value for name, value in terms.items()]).sum()

    @property
    def is_weighted_sum(self) -> bool:
        """Whether the total is the sum of the weighted terms."""
        return type(self).total is Weighting.total
