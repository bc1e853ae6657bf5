"""Plain references of the methods that balance terms: each follows its paper, and knows nothing of lossframe.

A reference is called in each step with the values [k] of the terms and their gradients [k, n] at the shared place,
and returns the weights [k]. `epoch` is the number of the epoch, `step` that of the step.
"""

from collections.abc import Callable
from typing import Any

import torch
from scipy.optimize import brentq, lsq_linear, root
from torch import Tensor
from torchjd.scalarization import DWA, FAMO

Reference = Callable[[Tensor, Tensor, int, int], Any]


def gradnorm() -> Reference:
    state: dict[str, Any] = {}

    def weights(values: Tensor, gradients: Tensor, step: int, epoch: int) -> Tensor:
        if not state:
            w = torch.ones(len(values), dtype=torch.float64, requires_grad=True)
            state.update(w=w, first=values.clone(), adam=torch.optim.Adam([w], lr=0.025))
        w = state["w"]
        norms = (w[:, None] * gradients).norm(dim=1)
        ratios = values / state["first"]
        target = (norms.mean() * (ratios / ratios.mean()) ** 1.5).detach()
        state["adam"].zero_grad()
        (norms - target).abs().sum().backward()
        used = w.detach().clone()
        state["adam"].step()
        with torch.no_grad():
            w *= len(w) / w.sum()
        return used

    return weights


def balancer() -> Reference:
    seen: list[Tensor] = []

    def weights(values: Tensor, gradients: Tensor, step: int, epoch: int) -> Tensor:
        seen.append(gradients.norm(dim=1))
        decays = torch.tensor([0.999 ** (len(seen) - 1 - k) for k in range(len(seen))], dtype=torch.float64)
        average = (decays[:, None] * torch.stack(seen)).sum(0) / decays.sum()
        return 1 / len(values) / average

    return weights


def running_mean() -> Reference:
    seen: list[Tensor] = []

    def weights(values: Tensor, gradients: Tensor, step: int, epoch: int) -> Tensor:
        seen.append(values.abs())
        decays = torch.tensor([0.99 ** (len(seen) - 1 - k) for k in range(len(seen))], dtype=torch.float64)
        return decays.sum() / (decays[:, None] * torch.stack(seen)).sum(0)

    return weights


def dwa() -> Reference:
    method, last = DWA(2.0), [0]

    def weights(values: Tensor, gradients: Tensor, step: int, epoch: int) -> Tensor:
        if epoch != last[0]:
            method.step()
            last[0] = epoch
        return _slopes(method, values)

    return weights


def famo() -> Reference:
    method = FAMO(3).double()

    def weights(values: Tensor, gradients: Tensor, step: int, epoch: int) -> Tensor:
        if step:
            method.update(values)
        return _slopes(method, values)

    return weights


def upgrad(values: Tensor, gradients: Tensor, step: int, epoch: int) -> Tensor:
    """Mean of the projections of each gradient onto the dual cone; TorchJD regularises the scaled Gramian by 1e-4."""
    gramian = gradients @ gradients.T
    root_ = torch.linalg.cholesky(gramian / gramian.trace() + 1e-4 * torch.eye(len(values))).T.numpy()
    projected = []
    for k in range(len(values)):
        wanted = torch.eye(len(values), dtype=torch.float64)[k] / len(values)
        bounds = (wanted.numpy() - 1e-300, float("inf"))
        projected.append(torch.from_numpy(lsq_linear(root_, 0 * root_[0], bounds, tol=1e-14).x))
    return torch.stack(projected).sum(0)


def dualproj(values: Tensor, gradients: Tensor, step: int, epoch: int) -> Tensor:
    gramian = gradients @ gradients.T
    root_ = torch.linalg.cholesky(gramian / gramian.trace() + 1e-4 * torch.eye(len(values))).T.numpy()
    bounds = (torch.full((len(values),), 1 / len(values)).double().numpy(), float("inf"))
    return torch.from_numpy(lsq_linear(root_, 0 * root_[0], bounds, tol=1e-14).x)


def mgda(values: Tensor, gradients: Tensor, step: int, epoch: int) -> Tensor:
    """The point of least norm between two gradients (Désidéri 2012)."""
    one, other = gradients
    share = ((other - one) @ other / ((one - other) @ (one - other))).clamp(0, 1)
    return torch.stack([share, 1 - share])


def pcgrad(values: Tensor, gradients: Tensor, step: int, epoch: int) -> Tensor:
    """Surgery on the vectors themselves; their sum is expressed by the gradients again."""
    generator = torch.Generator().manual_seed((1 << 32) + step)
    total = torch.zeros_like(gradients[0])
    for k, gradient in enumerate(gradients):
        operated = gradient.clone()
        for j in torch.randperm(len(gradients), generator=generator).tolist():
            if j != k and operated @ gradients[j] < 0:
                operated -= (operated @ gradients[j]) / (gradients[j] @ gradients[j]) * gradients[j]
        total += operated
    return torch.linalg.lstsq(gradients.T, total).solution


def cagrad(values: Tensor, gradients: Tensor, step: int, epoch: int) -> Tensor:
    """Algorithm 1 for two gradients, with c = 0.5, by the root of the derivative along the segment."""
    gradients = gradients / (gradients @ gradients.T).trace().sqrt()
    mean = gradients.mean(0)

    def slope(share: float) -> float:
        mixed, change = share * gradients[0] + (1 - share) * gradients[1], gradients[0] - gradients[1]
        return float(change @ mean + 0.5 * mean.norm() * (mixed @ change) / mixed.norm())

    share = 0.0 if slope(0) > 0 else 1.0 if slope(1) < 0 else brentq(slope, 0, 1, xtol=1e-14)
    w = torch.tensor([share, 1 - share], dtype=torch.float64)
    return 0.5 + 0.5 * mean.norm() / (w @ gradients).norm() * w


def fair(alpha: float) -> Reference:
    """The solution of G w = w^(-1 / alpha), of a Gramian with the mean diagonal 1."""

    def weights(values: Tensor, gradients: Tensor, step: int, epoch: int) -> Tensor:
        gramian = gradients @ gradients.T
        gramian = (gramian / gramian.diagonal().mean()).numpy()
        import numpy as np

        solved = root(lambda u: gramian @ np.exp(u) - np.exp(-u / alpha), np.zeros(len(values)), tol=1e-14)
        return torch.from_numpy(np.exp(solved.x))

    return weights


def imtl_g(values: Tensor, gradients: Tensor, step: int, epoch: int) -> Tensor:
    """The combination with the sum 1 whose projections onto all unit gradients are equal."""
    units = gradients / gradients.norm(dim=1, keepdim=True)
    equal = (units[0] - units[1:]) @ gradients.T
    system = torch.cat([equal, torch.ones(1, len(values), dtype=torch.float64)])
    return torch.linalg.solve(system, torch.eye(len(values), dtype=torch.float64)[-1])


def aligned_mtl(values: Tensor, gradients: Tensor, step: int, epoch: int) -> Tensor:
    """All singular values of the gradients become the smallest one."""
    u, s, vh = torch.linalg.svd(gradients, full_matrices=False)
    aligned = s[-1] * (u @ vh).mean(0)
    return torch.linalg.lstsq(gradients.T, aligned).solution


def random(values: Tensor, gradients: Tensor, step: int, epoch: int) -> Tensor:
    generator = torch.Generator().manual_seed((1 << 32) + step)
    return torch.randn(len(values), generator=generator, dtype=torch.float64).softmax(0)


def geometric_mean(values: Tensor, gradients: Tensor, step: int, epoch: int) -> Tensor:
    return values.prod() ** (1 / len(values)) / len(values) / values


def chebyshev(values: Tensor, gradients: Tensor, step: int, epoch: int) -> Tensor:
    return (values / len(values) / 0.1).softmax(0) / len(values)


def learned(factor: float, sign: float) -> Reference:
    """Weights factor exp(sign s) of numbers s that gradient descent with the rate 0.1 trains beside the model."""
    state: list[Tensor] = []

    def weights(values: Tensor, gradients: Tensor, step: int, epoch: int) -> Tensor:
        s = state[-1] if state else torch.zeros(len(values), dtype=torch.float64)
        state.append(s - 0.1 * (factor * sign * (sign * s).exp() * values - factor * sign))
        return factor * (sign * s).exp()

    return weights


def _slopes(method: Any, values: Tensor) -> Tensor:
    leaf = values.clone().requires_grad_()
    return torch.autograd.grad(method(leaf), leaf)[0]


REFERENCES: dict[str, Callable[[], Reference]] = {
    "gradnorm": gradnorm, "balancer": balancer, "running_mean": running_mean, "dwa": dwa, "famo": famo,
    "upgrad": lambda: upgrad, "dualproj": lambda: dualproj, "mgda": lambda: mgda, "pcgrad": lambda: pcgrad,
    "cagrad": lambda: cagrad, "nash_mtl": lambda: fair(1.0), "fairgrad": lambda: fair(2.0), "imtl_g": lambda: imtl_g,
    "aligned_mtl": lambda: aligned_mtl, "random": lambda: random, "geometric_mean": lambda: geometric_mean,
    "chebyshev": lambda: chebyshev, "uncertainty": lambda: learned(0.5, -1.0), "imtl_l": lambda: learned(1.0, 1.0),
}  # fmt: skip
OF_TWO = ("mgda", "cagrad")
"""References for two terms."""
