"""Weightings that follow the values of the terms, and need no gradients."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lossframe.errors import InputError
from lossframe.losses.base import checks
from lossframe.objectives.progress import Progress
from lossframe.objectives.weighting.balanced import Adam, Balanced

_LEAST = 1e-8
"""What is added to a value before it divides or its logarithm is taken."""


class RunningMean(Balanced):
    r"""Divides each term by the running mean of its magnitude, $b_k = 1 / \langle |L_k| \rangle_\beta$.

    The average is exponential with the decay `beta`, without the bias of its first steps; it includes the current
    value.
    """

    means: Tensor
    counts: Tensor

    def __init__(self, configured: Mapping[str, float], beta: float = 0.99) -> None:
        super().__init__(configured)
        if not 0 <= beta < 1:
            raise InputError(f"balance.beta={beta}: wanted a decay from 0 to below 1")
        self.beta = beta
        for name in ("means", "counts"):
            self.register_buffer(name, torch.zeros_like(self.balanced))

    def balance(self, terms: Sequence[int], values: Tensor, gramian: Tensor) -> Tensor:
        """Return 1 over the mean of each term."""
        chosen = list(terms)
        self.means[chosen] = self.beta * self.means[chosen] + values.abs().to(self.means)
        self.counts[chosen] = self.beta * self.counts[chosen] + 1
        return self.counts[chosen] / (self.means[chosen] + _LEAST)


class DynamicWeightAverage(Balanced):
    r"""Weighs slowly descending terms more (Liu et al. 2019, https://arxiv.org/abs/1803.10704).

    In epoch $t$, $b_k = K \exp(r_k / T) / \sum_j \exp(r_j / T)$ with $r_k = \bar L_k(t-1) / \bar L_k(t-2)$, the ratio
    of the means over the batches of two epochs, and the temperature $T$; 1 in the first two epochs of a term.
    """

    sums: Tensor
    counts: Tensor
    earlier: Tensor
    epoch: Tensor

    def __init__(self, configured: Mapping[str, float], temperature: float = 2.0) -> None:
        super().__init__(configured)
        self.temperature = checks.positive(temperature=temperature)
        for name in ("sums", "counts"):
            self.register_buffer(name, torch.zeros_like(self.balanced))
        self.register_buffer("earlier", torch.full((2, len(self.balanced)), torch.nan, dtype=torch.float64))
        self.register_buffer("epoch", torch.full((), -1.0, dtype=torch.float64))
        self._epoch: int | None = None  # that of the buffer, which a device holds

    def follow(self, progress: Progress) -> None:
        """Close the epoch that has ended."""
        epoch = math.floor(progress.of("epochs", "balance=dwa"))
        if self._epoch is None:
            self._epoch = int(self.epoch)
        if epoch != self._epoch:
            if self._epoch >= 0:
                self.earlier.copy_(torch.stack([self.earlier[1], self.sums / self.counts]))
            self.sums.zero_()
            self.counts.zero_()
            self.epoch.fill_(epoch)
            self._epoch = epoch

    def balance(self, terms: Sequence[int], values: Tensor, gramian: Tensor) -> Tensor:
        """Count the values of a batch, and return the weights of its epoch."""
        chosen = list(terms)
        self.sums[chosen] += values.to(self.sums)
        self.counts[chosen] += 1
        rates = (self.earlier[1] / self.earlier[0])[chosen]
        known = rates.isfinite().all()
        return torch.where(known, len(chosen) * (rates / self.temperature).softmax(0), 1.0)

    def _load_from_state_dict(self, *args: object) -> None:
        super()._load_from_state_dict(*args)
        self._epoch = None


class Famo(Balanced):
    r"""Lets all terms descend at one relative rate (Liu et al. 2023, FAMO, https://arxiv.org/abs/2306.03792).

    $b_k = c z_k / \ell_k$ with $z = \mathrm{softmax}(w)$, $\ell_k = L_k + \epsilon$ and $c = 1 / \sum_j z_j / \ell_j$.
    After a step, Adam with the rate `lr` and `weight_decay` descends along $J^T (\log \ell(t) - \log \ell(t+1))$ of
    the logits $w$, where $J$ is the Jacobian of the softmax. The paper evaluates $\ell(t+1)$ on the same batch by a
    second forward pass; here it is the value on the next batch. The terms must be positive.
    """

    logits: Tensor
    last: Tensor

    def __init__(self, configured: Mapping[str, float], lr: float = 0.025, weight_decay: float = 1e-3) -> None:
        super().__init__(configured)
        self.weight_decay = checks.not_negative(weight_decay=weight_decay)
        self.register_buffer("logits", torch.zeros_like(self.balanced))
        self.register_buffer("last", torch.full_like(self.balanced, torch.nan))
        self.adam = Adam(len(self.configured), checks.positive(lr=lr))

    def balance(self, terms: Sequence[int], values: Tensor, gramian: Tensor) -> Tensor:
        """Learn from the change since the last batch, and return the weights."""
        chosen = list(terms)
        wide = values.clamp_min(0) + _LEAST
        before = self.last[chosen]
        change = torch.where(before.isnan(), 0, before.log() - wide.to(before).log())
        z = self.logits[chosen].softmax(0)
        gradient = z * (change - (z * change).sum()) + self.weight_decay * self.logits[chosen]
        self.adam.descend(self.logits, chosen, gradient, ~before.isnan())
        self.last[chosen] = wide.to(self.last)
        z = self.logits[chosen].softmax(0).to(wide)
        return z / wide / (z / wide).sum()
