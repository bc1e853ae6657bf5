"""Other people's losses, written out with their sources where the packages are not at hand."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def torchvision_focal(logits: Tensor, target: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """https://github.com/pytorch/vision/blob/main/torchvision/ops/focal_loss.py (BSD-3-Clause)."""
    p = torch.sigmoid(logits)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    p_t = p * target + (1 - p) * (1 - target)
    alpha_t = alpha * target + (1 - alpha) * (1 - target)
    return (alpha_t * (cross_entropy * ((1 - p_t) ** gamma))).mean()


def segmentation_models_focal(logits: Tensor, target: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """https://github.com/qubvel-org/segmentation_models.pytorch, losses/_functional.py (MIT)."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    fading = (1.0 - torch.exp(-cross_entropy)).pow(gamma)
    return (fading * cross_entropy * (alpha * target + (1 - alpha) * (1 - target))).mean()


def mixture(parameters: Tensor, image: Tensor) -> Tensor:
    """Salimans' discretized_mix_logistic_loss, https://github.com/openai/pixel-cnn (MIT), line by line, in nats."""
    x, rest = image.permute(0, 2, 3, 1), parameters.permute(0, 2, 3, 1)
    number = rest.shape[-1] // 10
    logits, rest = rest[..., :number], rest[..., number:].reshape(*x.shape, 3 * number)
    means, log_scales = rest[..., :number], rest[..., number : 2 * number].clamp_min(-7)
    coefficients = torch.tanh(rest[..., 2 * number :])
    x = x.unsqueeze(-1) + torch.zeros_like(means)
    green = means[..., 1, :] + coefficients[..., 0, :] * x[..., 0, :]
    blue = means[..., 2, :] + coefficients[..., 1, :] * x[..., 0, :] + coefficients[..., 2, :] * x[..., 1, :]
    centered = x - torch.stack([means[..., 0, :], green, blue], -2)
    inverse = torch.exp(-log_scales)
    plus, minus, middle = inverse * (centered + 1 / 255), inverse * (centered - 1 / 255), inverse * centered
    inside = torch.sigmoid(plus) - torch.sigmoid(minus)
    density = middle - log_scales - 2 * F.softplus(middle) - math.log(127.5)
    log_p = torch.where(inside > 1e-5, inside.clamp_min(1e-12).log(), density)
    log_p = torch.where(x > 0.999, -F.softplus(minus), log_p)
    log_p = torch.where(x < -0.999, plus - F.softplus(plus), log_p)
    return -(log_p.sum(3) + F.log_softmax(logits, -1)).logsumexp(-1).sum() / len(image)
