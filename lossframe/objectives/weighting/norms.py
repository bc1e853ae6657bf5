"""Weightings that balance the norms of the terms' gradients."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lossframe.errors import InputError
from lossframe.losses.base import checks
from lossframe.objectives.weighting.balanced import Adam, Balanced


class GradNorm(Balanced):
    r"""Trains the weights so that all terms descend equally fast (Chen et al. 2018, https://arxiv.org/abs/1711.02257).

    The norm of term $k$ at the shared place is $n_k = b_k \lVert g_k \rVert$, its relative rate
    $r_k = \tilde L_k / \overline{\tilde L}$ with $\tilde L_k = L_k / L_k(0)$, its target
    $\overline{n} r_k^\alpha$, a constant. Adam with the rate `lr` descends along the derivative of
    $\sum_k |n_k - \overline{n} r_k^\alpha|$ with respect to the weights, which are then scaled to the mean 1.
    A weight does not fall below 0. $L_k(0)$ is the first value of a term.
    """

    needs_gramian = True
    first: Tensor
    trained: Tensor

    def __init__(self, configured: Mapping[str, float], alpha: float = 1.5, lr: float = 0.025) -> None:
        super().__init__(configured)
        self.alpha = checks.not_negative(alpha=alpha)
        self.register_buffer("first", torch.full_like(self.balanced, torch.nan))
        self.register_buffer("trained", torch.ones_like(self.balanced))
        self.adam = Adam(len(self.configured), checks.positive(lr=lr))

    def balance(self, terms: Sequence[int], values: Tensor, gramian: Tensor) -> Tensor:
        """Return the weights, and take the step of descent that gives those of the next step."""
        chosen = list(terms)
        first = self.first[chosen].cpu()
        first = torch.where(first.isnan(), values, first)
        self.first[chosen] = first.to(self.first)
        weights, norms = self.trained[chosen].cpu().double(), gramian.diagonal().sqrt()
        ratios = values / torch.where(first == 0, 1, first)
        rates = ratios / torch.where(ratios.mean() == 0, 1, ratios.mean())
        targets = (weights * norms).mean() * rates.clamp_min(0) ** self.alpha
        self.adam.descend(self.trained, chosen, norms * (weights * norms - targets).sign())
        moved = self.trained[chosen].clamp_min(0)
        self.trained[chosen] = moved * len(chosen) / moved.sum()
        return weights


class NormBalancer(Balanced):
    r"""Gives the terms' gradients norms in the ratio of the configured weights (Défossez et al. 2022, section 3.4).

    $p_k b_k = R \frac{p_k}{\sum_j p_j} / \langle \lVert g_k \rVert \rangle_\beta$, where the average is exponential
    with the decay `beta`, without the bias of its first steps, and $R$ is `total_norm`. The place of the paper is the
    output of the model (https://arxiv.org/abs/2210.13438).
    """

    needs_gramian = True
    norms: Tensor
    counts: Tensor

    def __init__(self, configured: Mapping[str, float], beta: float = 0.999, total_norm: float = 1.0) -> None:
        super().__init__(configured)
        if not 0 <= beta < 1:
            raise InputError(f"balance.beta={beta}: wanted a decay from 0 to below 1")
        self.beta, self.total_norm = beta, checks.positive(total_norm=total_norm)
        for name in ("norms", "counts"):
            self.register_buffer(name, torch.zeros_like(self.balanced))

    def balance(self, terms: Sequence[int], values: Tensor, gramian: Tensor) -> Tensor:
        """Return the weights that the averages of the norms give."""
        chosen = list(terms)
        self.norms[chosen] = self.beta * self.norms[chosen] + gramian.diagonal().sqrt().to(self.norms)
        self.counts[chosen] = self.beta * self.counts[chosen] + 1
        average = (self.norms[chosen] / self.counts[chosen]).cpu().double()
        return self.total_norm / self.priors(terms).abs().sum() / average
