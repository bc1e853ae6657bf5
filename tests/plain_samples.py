"""Slow float64 references of the losses whose values depend on one sample each."""

import math
from collections.abc import Callable

import torch
from plain_batches import cosine_distance
from torch import Tensor
from torch.nn import functional as F

from lossframe import Loss
from lossframe import losses as catalogue

Values = Tensor | tuple[Tensor, Tensor | None, Tensor | None]
"""Values, or values, how many elementary penalties each stands for, and the weight that each carries."""


def times(y: Tensor | float, x: Tensor) -> Tensor:
    """Multiply, where 0 times infinity is 0."""
    return y * torch.where((torch.as_tensor(y) == 0) & x.isinf(), 0, x)


def shares(scores: Tensor, target: Tensor) -> Tensor:
    """Return class indices as one-hot probabilities."""
    if target.is_floating_point():
        return target
    target = target.squeeze(1) if target.ndim == scores.ndim else target
    classes = torch.arange(scores.shape[1]).reshape(-1, *[1] * (scores.ndim - 2))
    return (target.unsqueeze(1) == classes).to(scores.dtype)


def by_class(numbers: Tensor | None, scores: Tensor) -> Tensor:
    """Return one number per class so that it multiplies the scores."""
    numbers = torch.ones(()) if numbers is None else numbers
    return numbers.double().reshape(-1, *[1] * (scores.ndim - 2)) if numbers.ndim else numbers.double()


def log_softmax(logits: Tensor) -> Tensor:
    """Return log-probabilities; a single logit of infinity is certain."""
    infinite = logits == math.inf
    one = infinite.sum(1, keepdim=True) == 1
    certain = torch.where(infinite, 0.0, -math.inf).to(logits.dtype)
    z = torch.where(one, 0, logits)
    z = z - z.detach().amax(1, keepdim=True) if logits.numel() else z
    return torch.where(one, certain, z - z.exp().sum(1, keepdim=True).log())


def counted(ignore_index: int, scores: Tensor, target: Tensor) -> Tensor | None:
    """Return which class indices count."""
    if target.is_floating_point():
        return None
    return (target.squeeze(1) if target.ndim == scores.ndim else target) != ignore_index


def cross_entropy(c: catalogue.CrossEntropyLoss, logits: Tensor, target: Tensor) -> Values:
    counts, y = counted(c.ignore_index, logits, target), shares(logits, target)
    w = by_class(c.class_weight, logits)
    smooth = y * (1 - c.label_smoothing) + c.label_smoothing / logits.shape[1]
    per_class = times(w * smooth, log_softmax(logits))
    return -per_class.sum(1), counts, None if c.class_weight is None else (w * y).sum(1)


def focal(c: catalogue.FocalLoss, logits: Tensor, target: Tensor) -> Values:
    log_p, y = log_softmax(logits), shares(logits, target)
    share = by_class(c.alpha, logits) * y
    log_p = torch.where((share == 0) & log_p.isinf(), 0, log_p)
    return -(share * fading(-log_p.expm1(), c.gamma) * log_p).sum(1), counted(c.ignore_index, logits, target), None


def fading(wrong: Tensor, gamma: float) -> Tensor:
    return wrong.clamp_min(1e-300).pow(gamma)


def categorical(c: catalogue.CategoricalCrossEntropyLoss, probabilities: Tensor, target: Tensor) -> Values:
    p = probabilities
    if c.normalize:
        total = p.sum(1, keepdim=True)
        p = torch.where(total == 0, 0, p / torch.where(total == 0, 1, total))
    y, log_p = shares(p, target), p.clamp(c.eps, 1 - c.eps).log()
    values = -(y * log_p if target.is_floating_point() else torch.where(y == 0, 0, log_p)).sum(1)
    return values, counted(c.ignore_index, probabilities, target), None


def accuracy(c: catalogue.CategoricalAccuracy, logits: Tensor, target: Tensor) -> Values:
    values = (logits.argmax(1) == shares(logits, target).argmax(1)).double()
    return values, counted(c.ignore_index, logits, target), None


def dice(c: catalogue.DiceLoss, logits: Tensor, target: Tensor) -> Tensor:
    p, y = logits.softmax(1) if c.activation == "softmax" else logits.sigmoid(), shares(logits, target)
    overlap, size = ((x.flatten(2) if x.ndim > 2 else x.unsqueeze(2)).sum(2) for x in (p * y, p + y))
    if c.batch:
        overlap, size = overlap.sum(0, keepdim=True), size.sum(0, keepdim=True)
    return 1 - (2 * overlap + c.smooth) / (size + c.smooth)


def binary(c: catalogue.BinaryCrossEntropyLoss, logits: Tensor, target: Tensor) -> Tensor:
    y = target.to(logits.dtype) * (1 - c.label_smoothing) + c.label_smoothing / 2
    positive = by_class(c.pos_weight, logits) * y
    return -times(positive, F.logsigmoid(logits)) - times(1 - y, F.logsigmoid(-logits))


def binary_focal(c: catalogue.BinaryFocalLoss, logits: Tensor, target: Tensor) -> Tensor:
    y = target.to(logits.dtype)
    wrong = y * (-logits).sigmoid() + (1 - y) * logits.sigmoid()
    alpha = 1.0 if c.alpha is None else y * c.alpha + (1 - y) * (1 - c.alpha)
    log_p = times(y, F.logsigmoid(logits)) + times(1 - y, F.logsigmoid(-logits))
    return -times(alpha * fading(wrong, c.gamma), log_p)


def log_loss(c: catalogue.LogLoss, probabilities: Tensor, target: Tensor) -> Tensor:
    p, y = probabilities.clamp(0, 1), target.double()
    v = -y * (p + c.eps).log() - (1 - y) * (1 - p + c.eps).log()
    return v + (v.clamp_min(0) - v).detach()  # the slope is let through


def hinge(c: catalogue.HingeLoss, logits: Tensor, target: Tensor) -> Tensor:
    y = target.double()
    return (1 - (2 * y - 1 if c.labels == "binary" else y) * logits).relu()


def huber(c: catalogue.HuberLoss, prediction: Tensor, target: Tensor) -> Tensor:
    e = (prediction - target).abs()
    inner = e.clamp_max(c.delta)  # the square of what is beyond is not taken
    return torch.where(e <= c.delta, inner.square() / 2, c.delta * (e - c.delta / 2))


def pairwise(c: catalogue.MeanPairwiseSquaredErrorLoss, prediction: Tensor, target: Tensor) -> Tensor:
    n = math.prod(prediction.shape[1:])
    d = (prediction - target).reshape(len(prediction), n)
    # each pair twice
    return (d[:, :, None] - d[:, None]).square().sum((1, 2)) / max(n * (n - 1), 1)


def cosine(c: catalogue.CosineDistanceLoss, prediction: Tensor, target: Tensor) -> Tensor:
    p, t = prediction.movedim(c.dim, -1), target.double().movedim(c.dim, -1)
    return cosine_distance(p, t) if c.normalize else 1 - (p * t).sum(-1)


def quantile(c: catalogue.QuantileLoss, prediction: Tensor, target: Tensor) -> Tensor:
    e = target - prediction
    return c.quantile * e.relu() + (1 - c.quantile) * (-e).relu()


def gaussian(c: catalogue.GaussianNLLLoss, prediction: Tensor, target: Tensor, variance: Tensor) -> Tensor:
    v = torch.where(variance < c.eps, variance - variance.detach() + c.eps, variance)  # the slope is let through
    return (v.log() + (prediction - target).square() / v) / 2


def pair_contrastive(c: catalogue.PairContrastiveLoss, distance: Tensor, target: Tensor) -> Tensor:
    apart = (c.margin - distance).relu().square()
    return 0.5 * (times(target, distance.square()) + times(1 - target, apart))


def mixture(c: catalogue.DiscretizedLogisticMixtureLoss, parameters: Tensor, image: Tensor) -> Tensor:
    k, (n, colours, height, width) = c.num_mixtures, image.shape
    given = parameters[:, k:].reshape(n, colours, 3 if colours == 3 else 2, k, height, width)
    mean, log_scale, x = given[:, :, 0], given[:, :, 1].clamp_min(-7), image.unsqueeze(2)
    if colours == 3:
        first, second, third = given[:, :, 2].tanh().unbind(1)
        red, green, blue = mean.unbind(1)
        mean = torch.stack([red, green + first * x[:, 0], blue + second * x[:, 0] + third * x[:, 1]], 1)
    inverse = (-log_scale).exp()
    middle, half = (x - mean) * inverse, inverse / 255
    inside = (middle + half).sigmoid() - (middle - half).sigmoid()
    density = -middle.abs() - log_scale - 2 * F.softplus(-middle.abs()) - math.log(127.5)
    log_p = torch.where(inside > 1e-5, inside.clamp_min(1e-5).log(), density)
    log_p = torch.where(x > 0.999, F.logsigmoid(half - middle), log_p)
    log_p = torch.where(x < -0.999, F.logsigmoid(middle + half), log_p)
    return -(log_p.sum(1) + parameters[:, :k].log_softmax(1)).logsumexp(1).sum((1, 2))


OF_SAMPLES: dict[type[Loss], Callable[..., Values]] = {
    catalogue.AuxiliaryLoss: lambda c, value: value,
    catalogue.BinaryCrossEntropyLoss: binary,
    catalogue.BinaryFocalLoss: binary_focal,
    catalogue.CategoricalAccuracy: accuracy,
    catalogue.CategoricalCrossEntropyLoss: categorical,
    catalogue.CosineDistanceLoss: cosine,
    catalogue.CrossEntropyLoss: cross_entropy,
    catalogue.DiceLoss: dice,
    catalogue.DiscretizedLogisticMixtureLoss: mixture,
    catalogue.FocalLoss: focal,
    catalogue.GaussianNLLLoss: gaussian,
    catalogue.HingeLoss: hinge,
    catalogue.HuberLoss: huber,
    catalogue.L1Loss: lambda c, prediction, target: (prediction - target).abs(),
    catalogue.LogLoss: log_loss,
    catalogue.MSELoss: lambda c, prediction, target: (prediction - target).square(),
    catalogue.MeanPairwiseSquaredErrorLoss: pairwise,
    catalogue.PairContrastiveLoss: pair_contrastive,
    catalogue.QuantileLoss: quantile,
}
