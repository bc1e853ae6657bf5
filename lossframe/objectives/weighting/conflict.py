"""Weighs terms by the gradient near their mean along which the worst term descends most."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from lossframe.losses.base import checks
from lossframe.objectives.weighting.balanced import Balanced


class ConflictAverse(Balanced):
    r"""CAGrad: descends near the mean gradient $g_0$ where the worst term descends most (Liu et al. 2021).

    The weights are $\frac{1}{K} + \frac{c \lVert g_0 \rVert}{\lVert g_w \rVert} w_k$, where $g_w = \sum_k w_k g_k$ and
    $w$ minimises $g_w \cdot g_0 + c \lVert g_0 \rVert \lVert g_w \rVert$ over shares that add up to 1
    (https://arxiv.org/abs/2110.14048, algorithm 1). Where a mixture of the gradients is 0, no term can descend without
    another's ascent, and all weights are 0.
    """

    needs_gramian = True

    def __init__(self, configured: Mapping[str, float], c: float = 0.5) -> None:
        super().__init__(configured)
        self.c = checks.not_negative(c=c)

    def balance(self, terms: Sequence[int], values: Tensor, gramian: Tensor) -> Tensor:
        """Return the weights that the shares of the best mixture give."""
        products = (gramian / gramian.diagonal().mean()).double().numpy()
        radius = self.c * np.sqrt(max(products.mean(), 0.0))
        shares = _best_shares(products, radius)
        norm = np.sqrt(max(shares @ products @ shares, 0.0))
        if norm < _SMALLEST:
            return torch.zeros_like(gramian.diagonal())
        return torch.from_numpy(1 / len(products) + radius / norm * shares)


_SMALLEST = 1e-7
"""The norm below which a mixture of gradients, whose mean square is 1, is taken for 0: squares of float64 end there."""


def _best_shares(products: np.ndarray, radius: float) -> np.ndarray:
    """Return the shares w that minimise w . m + radius sqrt(w' G w), where m is the mean of the columns of G."""
    means = products.mean(1)

    def descent(w: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = products @ w
        norm = np.sqrt(max(w @ mixed, _SMALLEST**2))
        return float(w @ means + radius * norm), means + radius * mixed / norm

    size = len(products)
    start = np.full(size, 1 / size)
    constraint = {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(size)}
    options = {"ftol": 1e-16, "maxiter": 1000}
    found = minimize(descent, start, jac=True, bounds=[(0, 1)] * size, constraints=constraint, options=options)
    return _polished(np.clip(found.x, 0, 1), products, means, radius)


def _polished(shares: np.ndarray, products: np.ndarray, means: np.ndarray, radius: float) -> np.ndarray:
    """Take Newton steps among the shares above 0, so that ranks whose sums differ in the last digit agree."""
    shares = np.where(shares > 1e-6, shares, 0)
    shares /= shares.sum()
    chosen = np.flatnonzero(shares)
    for _ in range(20):
        mixed = products @ shares
        norm = np.sqrt(max(shares @ mixed, 0.0))
        if norm < _SMALLEST:
            break
        slope = (means + radius * mixed / norm)[chosen]
        curve = radius * (products / norm - np.outer(mixed, mixed) / norm**3)[np.ix_(chosen, chosen)]
        system = np.block([[curve, np.ones((len(chosen), 1))], [np.ones((1, len(chosen))), np.zeros((1, 1))]])
        step = np.linalg.lstsq(system, np.append(-slope, 0.0), rcond=None)[0][:-1]
        moved = shares[chosen] + step
        if moved.min() < 0:
            break
        shares[chosen] = moved
        if np.abs(step).max() < 1e-14:
            break
    return shares
