"""Losses of other libraries on one score or probability per class, which are on dim 1 here."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peers.row import Inputs, Row, normal

N, C = 6, 4
WEIGHT = torch.tensor([0.5, 1.0, 2.0, 0.25], dtype=torch.float64)
IGNORED = 2


def classes(*shape: int) -> Tensor:
    """Return class indices, all classes among them."""
    return torch.arange(N * max(1, torch.Size(shape).numel())).reshape(N, *shape) % C


def indexed() -> Inputs:
    """Return logits of pixels and class indices."""
    return {"logits": normal(N, C, 5), "target": classes(5)}


def soft() -> Inputs:
    """Return logits and probabilities as target."""
    return {"logits": normal(N, C), "target": normal(N, C).softmax(1)}


def one_hot() -> Inputs:
    """Return logits of pixels and one-hot targets."""
    return {"logits": normal(N, C, 5), "target": F.one_hot(classes(5), C).movedim(-1, 1).double()}


def chances() -> Inputs:
    """Return probabilities and class indices."""
    return {"probabilities": normal(N, C).softmax(1), "target": classes()}


def scores() -> Inputs:
    """Return positive scores and probabilities as target."""
    return {"probabilities": normal(N, C).exp(), "target": normal(N, C).softmax(1)}


def of_class(values: Tensor, target: Tensor) -> Tensor:
    """Return the values of the targets' classes."""
    return (values * F.one_hot(target, C).movedim(-1, 1)).sum(1)


def cross_entropy(z: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the softmax cross-entropy of probabilities."""
    y = y * (1 - label_smoothing) + label_smoothing / C
    return -(y * z.log_softmax(1)).sum(1)


def sparse(z: Tensor, t: Tensor) -> Tensor:
    """Return the softmax cross-entropy of class indices."""
    return -of_class(z.log_softmax(1), t)


def keras_sparse(z: Tensor, t: Tensor, ignore_class: int | None = None) -> Tensor:
    """Return the softmax cross-entropy of the targets that Keras does not ignore; the mean is over these."""
    values = sparse(z, t)
    return values if ignore_class is None else values[t != ignore_class]


def of_scores(p: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy of Keras, which divides scores by their sum and clips them at 1e-7."""
    y = y * (1 - label_smoothing) + label_smoothing / C
    p = (p / p.sum(1, keepdim=True)).clamp(1e-7, 1 - 1e-7)
    return -(y * p.log()).sum(1)


def focal(z: Tensor, t: Tensor, gamma: float = 2.0) -> Tensor:
    """Return the focal loss of the targets' classes, without alpha."""
    log_p = of_class(z.log_softmax(1), t)
    return -((1 - log_p.exp()) ** gamma) * log_p


def keras_focal(z: Tensor, y: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Return the focal loss of Keras."""
    p = z.softmax(1)
    return (-alpha * y * (1 - p) ** gamma * p.log()).sum(1)


def monai_focal(z: Tensor, y: Tensor, gamma: float = 2.0, alpha: float | None = None) -> Tensor:
    """Return the focal loss of MONAI: a value for each class, also for those that are not the target."""
    del alpha
    log_p = z.log_softmax(1)
    return -((1 - log_p.exp()) ** gamma) * log_p * y


def kornia_focal(z: Tensor, t: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Return the focal loss of kornia, whose class 0 has the weight 1 - alpha: a value for each class."""
    weight = torch.tensor([1 - alpha] + [alpha] * (C - 1))
    y = F.one_hot(t, C).movedim(-1, 1)
    return weight.reshape(-1, 1) * monai_focal(z, y, gamma)


def models_focal(z: Tensor, t: Tensor, gamma: float = 2.0) -> Tensor:
    """Return the multiclass focal loss of segmentation-models: a sigmoid for each class."""
    y = F.one_hot(t, C).movedim(-1, 1).double()
    p_t = torch.where(y == 1, z.sigmoid(), 1 - z.sigmoid())
    return -((1 - p_t) ** gamma) * p_t.log()


def torch_cross_entropy(z: Tensor, t: Tensor, label_smoothing: float = 0.0, ignore_index: int = -100) -> Tensor:
    """Return the cross-entropy of torch."""
    return nn.CrossEntropyLoss(label_smoothing=label_smoothing, ignore_index=ignore_index)(z, t)


def unsmoothed(z: Tensor, y: Tensor) -> Tensor:
    """Return the softmax cross-entropy of a library without label smoothing."""
    return cross_entropy(z, y)


def keras(there: str, here: str, values: Callable[..., Tensor], inputs: Callable[[], Inputs], note: str = "") -> Row:
    """Return a row of Keras."""
    return Row("Keras", there, here, values, inputs, "sum_over_batch_size", note=note)


WEIGHTED = f"CrossEntropyLoss(class_weight={WEIGHT.tolist()})"
ALPHA = "FocalLoss(alpha=[0.75, 0.25, 0.25, 0.25])"
ROWS = [
    keras("CategoricalCrossentropy(from_logits=True)", "CrossEntropyLoss()", cross_entropy, soft),
    keras("CategoricalCrossentropy()", "CategoricalCrossEntropyLoss(normalize=True)", of_scores, scores),
    keras("SparseCategoricalCrossentropy(from_logits=True)", "CrossEntropyLoss()", keras_sparse, indexed),
    Row("Keras", f"SparseCategoricalCrossentropy(from_logits=True, ignore_class={IGNORED})",
        f"CrossEntropyLoss(ignore_index={IGNORED})", lambda z, t: keras_sparse(z, t, IGNORED), indexed,
        note="ignored targets are not in the mean, those of weight 0 are"),
    keras("SparseCategoricalCrossentropy()", "CategoricalCrossEntropyLoss(normalize=True)",
          lambda p, t, ignore_class=None: of_scores(p, F.one_hot(t, C).double()), chances),
    keras("CategoricalFocalCrossentropy(from_logits=True)", "FocalLoss(alpha=0.25)", keras_focal, one_hot),
    Row("tf.contrib.losses", "softmax_cross_entropy()", "CrossEntropyLoss()", cross_entropy, one_hot,
        "SUM_BY_NONZERO_WEIGHTS"),
    Row("tf.contrib.losses", "sparse_softmax_cross_entropy()", "CrossEntropyLoss()", sparse, indexed,
        "SUM_BY_NONZERO_WEIGHTS"),
    Row("torch", "CrossEntropyLoss()", "CrossEntropyLoss()",
        torch_cross_entropy, indexed),
    Row("torch", f"CrossEntropyLoss(ignore_index={IGNORED})", f"CrossEntropyLoss(ignore_index={IGNORED})",
        nn.CrossEntropyLoss(ignore_index=IGNORED), indexed),
    Row("torch", f"CrossEntropyLoss(weight={WEIGHT.tolist()})", WEIGHTED, nn.CrossEntropyLoss(weight=WEIGHT), indexed,
        "weighted mean", note="with class indices the mean is over their weights, there and here"),
    Row("torch", f"CrossEntropyLoss(weight={WEIGHT.tolist()}) of probabilities", WEIGHTED,
        nn.CrossEntropyLoss(weight=WEIGHT), soft, note="with probabilities as target torch divides by their number"),
    Row("torch", "NLLLoss()", "CategoricalCrossEntropyLoss(eps=1e-15)", lambda p, t: nn.NLLLoss()(p.log(), t), chances,
        note="reads logarithms there, probabilities here"),
    Row("optax", "softmax_cross_entropy()", "CrossEntropyLoss()", unsmoothed, soft, "none"),
    Row("optax", "softmax_cross_entropy_with_integer_labels()", "CrossEntropyLoss()", sparse, indexed, "none"),
    Row("MONAI", "FocalLoss(use_softmax=True, to_onehot_y=True)", "FocalLoss()",
        lambda z, t, gamma=2.0, alpha=None: monai_focal(z, F.one_hot(t, C).movedim(-1, 1), gamma, alpha), indexed,
        gives="here / C", note="averages over the C classes too; a number as alpha is 1 - alpha for class 0"),
    Row("segmentation-models", "SoftCrossEntropyLoss(smooth_factor=0.1)", "CrossEntropyLoss(label_smoothing=0.1)",
        lambda z, t: cross_entropy(z, F.one_hot(t, C).movedim(-1, 1).double(), 0.1), indexed),
    Row("segmentation-models", 'FocalLoss("multiclass")', "BinaryFocalLoss(alpha=None)",
        lambda z, y, alpha=None, gamma=2.0: models_focal(z, y.argmax(1), gamma), one_hot,
        note="a sigmoid for each class: one-hot targets here"),
    Row("kornia", "focal_loss(alpha=0.25)", ALPHA, lambda z, t, gamma=2.0: kornia_focal(z, t, 0.25, gamma).sum(1),
        indexed, "none", note="class 0 has the weight 1 - alpha"),
    Row("kornia", 'focal_loss(alpha=0.25, reduction="mean")', ALPHA,
        lambda z, t, gamma=2.0: kornia_focal(z, t, 0.25, gamma), indexed, gives="here / C",
        note="averages over the C classes too"),
    Row("babilim", "SparseCrossEntropyLossFromLogits()", "CrossEntropyLoss()", sparse, indexed),
    Row("babilim", "SparseCategoricalAccuracy()", "CategoricalAccuracy()",
        lambda z, t: (z.argmax(1) == t).double(), indexed),
]  # fmt: skip
