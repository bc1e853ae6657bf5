"""Evaluates the cross-entropy of binary probabilities, with all digits near 0 and 1."""

import torch
from torch import Tensor


def log_loss(p: Tensor, y: Tensor, eps: float) -> Tensor:
    r"""Return $-y \log(p + \epsilon) - (1 - y) \log(1 - p + \epsilon)$ of $p$ and $y$ in [0, 1].

    A value below 0 becomes 0, and keeps its gradient.
    """
    near = p > 0.5
    small = torch.where(near, 1 - p, p)  # has all digits of p, or of 1 - p
    of_large, of_small = torch.where(near, y, 1 - y), torch.where(near, 1 - y, y)
    value = -of_large * (eps - small).log1p() - of_small * (small + eps).log()
    return value + value.detach().neg().clamp_min(0)
