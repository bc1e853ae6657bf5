"""Losses of other libraries that read one prediction per target: regression, and yes or no."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peers.row import Inputs, Row, bits, normal, uniform

N, D = 6, 3


def regression() -> Inputs:
    """Return predictions and targets."""
    return {"prediction": normal(N, D), "target": normal(N, D)}


def units() -> Inputs:
    """Return predictions and targets of length 1."""
    return {"prediction": F.normalize(normal(N, D)), "target": F.normalize(normal(N, D))}


def gaussian() -> Inputs:
    """Return predictions, targets and variances."""
    return {**regression(), "variance": uniform(N, D)}


def binary() -> Inputs:
    """Return logits and targets of 0 and 1."""
    return {"logits": normal(N, D), "target": bits(N, D)}


def signed() -> Inputs:
    """Return logits and targets of -1 and 1."""
    return {"logits": normal(N, D), "target": 2 * bits(N, D) - 1}


def chances() -> Inputs:
    """Return probabilities and targets of 0 and 1."""
    return {"probabilities": uniform(N, D), "target": bits(N, D)}


def absolute(p: Tensor, t: Tensor) -> Tensor:
    """Return absolute errors."""
    return (p - t).abs()


def squared(p: Tensor, t: Tensor) -> Tensor:
    """Return squared errors."""
    return (p - t) ** 2


def half_squared(p: Tensor, t: Tensor) -> Tensor:
    """Return half of the squared errors."""
    return 0.5 * (p - t) ** 2


def huber(p: Tensor, t: Tensor, delta: float = 1.0) -> Tensor:
    """Return Huber's penalty."""
    e = (p - t).abs()
    return torch.where(e <= delta, 0.5 * e**2, delta * e - 0.5 * delta**2)


def smooth_l1(p: Tensor, t: Tensor, beta: float = 1.0) -> Tensor:
    """Return torch's smooth L1."""
    return nn.SmoothL1Loss(beta=beta, reduction="none")(p, t)


def pinball(p: Tensor, t: Tensor, tau: float = 0.5) -> Tensor:
    """Return the pinball loss."""
    return torch.maximum(tau * (t - p), (tau - 1) * (t - p))


def cosine(p: Tensor, t: Tensor) -> Tensor:
    """Return the cosines of rows."""
    return (p * t).sum(1) / (p.norm(dim=1) * t.norm(dim=1))


def pairwise(p: Tensor, t: Tensor) -> Tensor:
    """Return what the code of tf.contrib gives, which sums over ordered pairs and divides by n twice."""
    d = p - t
    n = d.shape[1]
    return 2 * ((d**2).sum(1) / n - (d.sum(1) / n) ** 2)


def cross_entropy(z: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the sigmoid cross-entropy."""
    y = y * (1 - label_smoothing) + 0.5 * label_smoothing
    return -y * z.sigmoid().log() - (1 - y) * (1 - z.sigmoid()).log()


def unsmoothed(z: Tensor, y: Tensor) -> Tensor:
    """Return the sigmoid cross-entropy of a library without label smoothing."""
    return cross_entropy(z, y)


def clipped(p: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy of Keras, which clips probabilities at 1e-7."""
    y = y * (1 - label_smoothing) + 0.5 * label_smoothing
    p = p.clamp(1e-7, 1 - 1e-7)
    return -y * p.log() - (1 - y) * (1 - p).log()


def with_epsilon(p: Tensor, y: Tensor, epsilon: float = 1e-7) -> Tensor:
    """Return the cross-entropy of tf.contrib."""
    return -y * (p + epsilon).log() - (1 - y) * (1 - p + epsilon).log()


def focal(z: Tensor, y: Tensor, alpha: float | None, gamma: float) -> Tensor:
    """Return the focal loss of Lin (2017)."""
    p = z.sigmoid()
    p_t = y * p + (1 - y) * (1 - p)
    alpha_t = 1.0 if alpha is None else y * alpha + (1 - y) * (1 - alpha)
    return -alpha_t * (1 - p_t) ** gamma * p_t.log()


def keras_focal(
    z: Tensor, y: Tensor, apply_class_balancing: bool = False, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """Return the binary focal loss of Keras, whose alpha does nothing unless classes are balanced."""
    return focal(z, y, alpha if apply_class_balancing else None, gamma)


def focal_025(z: Tensor, y: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Return the focal loss with a default alpha."""
    return focal(z, y, alpha, gamma)


def focal_none(z: Tensor, y: Tensor, alpha: float | None = None, gamma: float = 2.0) -> Tensor:
    """Return the focal loss without a default alpha."""
    return focal(z, y, alpha, gamma)


def hinge(z: Tensor, t: Tensor) -> Tensor:
    """Return the hinge of targets -1 and 1."""
    return (1 - t * z).clamp_min(0)


def masked(p: Tensor, t: Tensor) -> Tensor:
    """Return squared errors of MONAI's masked inputs; the caller's weight is the mask."""
    return squared(p, t)


def keras(there: str, here: str, values: Callable[..., Tensor], inputs: Callable[[], Inputs], **rest: str) -> Row:
    """Return a row of Keras."""
    rtol = 1e-5 if "clips" in rest.get("note", "") else 1e-9
    return Row("Keras", there, here, values, inputs, "sum_over_batch_size", rtol=rtol, **rest)


def contrib(there: str, here: str, values: Callable[..., Tensor], inputs: Callable[[], Inputs], **rest: str) -> Row:
    """Return a row of tf.contrib."""
    return Row(
        "tf.contrib.losses", there, here, values, inputs, rest.pop("reduction", "SUM_BY_NONZERO_WEIGHTS"), **rest
    )


ROWS = [
    keras("MeanSquaredError()", "MSELoss()", squared, regression),
    keras("MeanAbsoluteError()", "L1Loss()", absolute, regression),
    keras("Huber()", "HuberLoss()", huber, regression),
    keras("CosineSimilarity()", "CosineDistanceLoss(normalize=True)", lambda p, t: -cosine(p, t), regression,
          gives="here - 1", note="minus the cosine there"),
    keras("BinaryCrossentropy(from_logits=True)", "BinaryCrossEntropyLoss()", cross_entropy, binary),
    keras("BinaryCrossentropy()", "LogLoss()", clipped, chances, note="clips probabilities, where eps is added here"),
    keras("BinaryFocalCrossentropy(from_logits=True)", "BinaryFocalLoss(alpha=None)", keras_focal, binary),
    keras("Hinge()", "HingeLoss()", lambda z, y: hinge(z, 2 * y - 1), binary, note="targets 0 and 1 become -1 and 1"),
    Row("TensorFlow Addons", "SigmoidFocalCrossEntropy(from_logits=True)", "BinaryFocalLoss()",
        lambda z, y, alpha=0.25, gamma=2.0: focal(z, y, alpha, gamma).sum(1), binary, "none", "here.sum(1)",
        "sums over the last axis"),
    Row("TensorFlow Addons", "PinballLoss()", "QuantileLoss(quantile=0.5)", pinball, regression, "sum_over_batch_size"),
    contrib("absolute_difference()", "L1Loss()", absolute, regression),
    contrib("mean_squared_error()", "MSELoss()", squared, regression),
    contrib("cosine_distance(dim=1)", "CosineDistanceLoss()", lambda p, t: 1 - (p * t).sum(1), units),
    contrib("mean_pairwise_squared_error()", "MeanPairwiseSquaredErrorLoss()", pairwise, regression, reduction="sum",
            gives="here * (D - 1) / D"),
    contrib("sigmoid_cross_entropy()", "BinaryCrossEntropyLoss()", cross_entropy, binary),
    contrib("log_loss()", "LogLoss()", with_epsilon, chances),
    contrib("hinge_loss()", "HingeLoss()", lambda z, y: hinge(z, 2 * y - 1), binary, reduction="none"),
    Row("torch", "L1Loss()", "L1Loss()", nn.L1Loss(), regression),
    Row("torch", "MSELoss()", "MSELoss()", nn.MSELoss(), regression),
    Row("torch", "HuberLoss()", "HuberLoss()", lambda p, t, delta=1.0: nn.HuberLoss(delta=delta)(p, t), regression),
    Row("torch", "SmoothL1Loss(beta=0.5)", "HuberLoss(delta=0.5)", lambda p, t: smooth_l1(p, t, 0.5), regression,
        gives="here / delta", note="beta is delta"),
    Row("torch", "SmoothL1Loss()", "HuberLoss()", smooth_l1, regression),
    Row("torch", "GaussianNLLLoss()", "GaussianNLLLoss()",
        lambda p, t, v, full=False, eps=1e-6: nn.GaussianNLLLoss(full=full, eps=eps)(p, t, v), gaussian),
    Row("torch", "CosineEmbeddingLoss()", "CosineDistanceLoss(normalize=True)",
        lambda p, t, margin=0.0: nn.CosineEmbeddingLoss(margin=margin)(p, t, torch.ones(N)), regression,
        note="with all targets 1", rtol=1e-8),
    Row("torch", "BCEWithLogitsLoss()", "BinaryCrossEntropyLoss()",
        lambda z, y, pos_weight=None: nn.BCEWithLogitsLoss(pos_weight=pos_weight)(z, y), binary),
    Row("torch", "MultiLabelSoftMarginLoss()", "BinaryCrossEntropyLoss()", nn.MultiLabelSoftMarginLoss(),
        binary),
    Row("torch", "BCELoss()", "LogLoss()", nn.BCELoss(), chances, rtol=1e-5,
        note="clips logarithms at -100, where eps is added here"),
    Row("torchvision", "sigmoid_focal_loss()", "BinaryFocalLoss()", focal_025, binary, "none"),
    Row("optax", "squared_error()", "MSELoss()", squared, regression, "none"),
    Row("optax", "l2_loss()", "MSELoss()", half_squared, regression, "none", "here / 2"),
    Row("optax", "huber_loss()", "HuberLoss()", huber, regression, "none"),
    Row("optax", "cosine_distance()", "CosineDistanceLoss(normalize=True)",
        lambda p, t, epsilon=0.0: 1 - cosine(p, t), regression, "none"),
    Row("optax", "hinge_loss()", 'HingeLoss(labels="signed")', hinge, signed, "none"),
    Row("optax", "sigmoid_binary_cross_entropy()", "BinaryCrossEntropyLoss()", unsmoothed, binary, "none"),
    Row("optax", "sigmoid_focal_loss()", "BinaryFocalLoss(alpha=None)", focal_none, binary, "none"),
    Row("MONAI", "FocalLoss()", "BinaryFocalLoss(alpha=None)",
        lambda z, y, gamma=2.0, alpha=None: focal(z, y, alpha, gamma), binary),
    Row("MONAI", "MaskedLoss(torch.nn.MSELoss())", "MSELoss()", masked, regression, "mean, ignored too",
        note="the mask is the `weight`"),
    Row("segmentation-models", 'FocalLoss("binary")', "BinaryFocalLoss(alpha=None)", focal_none, binary),
    Row("segmentation-models", "SoftBCEWithLogitsLoss()", "BinaryCrossEntropyLoss()",
        lambda z, y, smooth_factor=None: cross_entropy(z, y), binary),
    Row("kornia", "binary_focal_loss_with_logits()", "BinaryFocalLoss()", focal_025, binary, "none"),
    Row("babilim", "MeanSquaredError()", "MSELoss()", lambda p, t: squared(p, t).mean(-1), regression),
]  # fmt: skip
