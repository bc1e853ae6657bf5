"""Cross-entropy of probabilities of a yes, with all digits next to 0 and 1."""

import torch
from torch import Tensor


def log_loss(p: Tensor, y: Tensor, eps: float) -> Tensor:
    r"""Return $-y \log(p + \epsilon) - (1 - y) \log(1 - p + \epsilon)$ of $p$ and $y$ in [0, 1].

    A value below 0 becomes 0, and keeps its gradient.
    """
    value = -y * _log_sum(p, 1 - p, eps) - (1 - y) * _log_sum(1 - p, p, eps)
    return value + value.detach().neg().clamp_min(0)


def _log_sum(p: Tensor, rest: Tensor, eps: float) -> Tensor:
    r"""Return $\log(p + \epsilon)$ where `rest` is 1 - p, of which one is exact: the smaller one."""
    near = p > 0.5
    return torch.where(near, eps - rest, 0).log1p() + torch.where(near, 1, p + eps).log()
