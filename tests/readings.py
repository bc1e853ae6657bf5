"""Which loss stands for which function of the originals, and in which reading: the map that test_golden.py follows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossframe import Loss, losses
from lossframe.losses.base.reduction import reduce


@dataclass(frozen=True)
class Reading:
    """What to compare with (`None`: the original's own figures, else a documented one), and how we compute it.

    Where a documented value is the original's, so is its gradient, unless two formulae only meet in that point.
    """

    name: str | None
    compute: Callable[[dict[str, Tensor], dict[str, Any]], Tensor]
    same_gradient: bool = True


def weighted(criterion: Loss, prediction: Tensor, target: Tensor, inputs: dict[str, Tensor], params: dict) -> Tensor:
    return criterion(prediction, target, weight=inputs.get("weights", params.get("weights")))


def contrib(criterion: Callable[[dict], Loss], prediction: str = "predictions", target: str = "labels") -> Reading:
    return Reading(None, lambda x, p: weighted(criterion(p), x[prediction], x[target], x, p))


def plain(criterion: Callable[[dict], Loss], prediction: str, target: str, name: str | None = None) -> Reading:
    return Reading(name, lambda x, p: criterion(p)(x[prediction], x[target]))


def channels(x: Tensor) -> Tensor:
    """Classes and colours come last in the originals, and second here."""
    return x.movedim(-1, 1)


def rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def pairwise(name: str, reduction: str) -> Reading:
    criterion = losses.MeanPairwiseSquaredErrorLoss(reduction=reduction)
    return Reading(name, lambda x, p: weighted(criterion, x["predictions"], x["labels"], x, p))


def cosine(name: str | None, normalize: bool) -> Reading:
    def compute(x: dict[str, Tensor], p: dict) -> Tensor:
        criterion = losses.CosineDistanceLoss(dim=p["axis"], normalize=normalize)
        return weighted(criterion, x["predictions"], x["labels"], x, p)

    return Reading(name, compute, same_gradient=not normalize)


def kappa(name: str, criterion: type[Loss], **options: Any) -> Reading:
    renamed = {"y_pow": "power", "eps": "eps", "label_smoothing": "label_smoothing", "log_scale": "log_scale",
               "log_offset": "log_offset", "log_cutoff": "log_cutoff"}  # fmt: skip

    def compute(x: dict[str, Tensor], p: dict) -> Tensor:
        given = {renamed[k]: v for k, v in p.items() if k in renamed}
        return criterion(num_classes=x["predictions"].shape[1], **given, **options)(x["predictions"], x["labels"])

    return Reading(name, compute)


def triplet(name: str | None, a: str, p: str, n: str, margin: str, **options: Any) -> Reading:
    def compute(x: dict[str, Tensor], params: dict) -> Tensor:
        given = {"margin": params[margin]} if margin in params else {}
        return losses.TripletMarginLoss(**given, **options)(x[a], x[p], x[n])

    return Reading(name, compute)


def tefla_cross_entropy(x: dict[str, Tensor], p: dict) -> Tensor:
    criterion = losses.CrossEntropyLoss(label_smoothing=p.get("label_smoothing", 0.0))
    return criterion(x["logits"], x["labels"], weight=p.get("weight"))


def babilim_cross_entropy(x: dict[str, Tensor], p: dict) -> Tensor:
    reduction = p.get("reduction", "none" if p["backend"] == "tf2" else "mean")
    return losses.CrossEntropyLoss(reduction=reduction)(channels(x["y_pred"]), x["y_true"])


def mixture(x: dict[str, Tensor], p: dict) -> Tensor:
    parameters, image = channels(x["predictions"]), channels(x["inputs"])
    criterion = losses.DiscretizedLogisticMixtureLoss(
        num_mixtures=parameters.shape[1] // 10, reduction="sum" if p.get("sum_all", True) else "none"
    )
    return criterion(parameters, image)


def penalty(x: dict[str, Tensor], p: dict) -> Tensor:
    criterion = losses.L1L2Penalty(l1=p.get("weight_l1", 1.0), l2=p.get("weight_l2", 1.0))
    return criterion.penalty([x["var"]])


TEFLA_TRIPLET = ("anchor", "positive", "negative", "alpha")
BLOG_TRIPLET = ("anchor_feature", "positive_feature", "negative_feature", "margin")

READINGS: dict[tuple[str, str], list[Reading]] = {
    ("tf.contrib.losses", "absolute_difference"): [contrib(lambda p: losses.L1Loss())],
    ("tf.contrib.losses", "mean_squared_error"): [contrib(lambda p: losses.MSELoss())],
    ("tf.contrib.losses", "log_loss"): [contrib(lambda p: losses.LogLoss(eps=p.get("epsilon", 1e-7)))],
    ("tf.contrib.losses", "hinge_loss"): [contrib(lambda p: losses.HingeLoss(reduction="none"), "logits")],
    ("tf.contrib.losses", "cosine_distance"): [cosine(None, False), cosine("normalized", True)],
    ("tf.contrib.losses", "mean_pairwise_squared_error"): [
        pairwise("docstring_mean_over_pairs", "sum"), pairwise("mean_over_pairs_and_nonzero_samples", "mean"),
    ],
    ("tf.contrib.losses", "softmax_cross_entropy"): [contrib(
        lambda p: losses.CrossEntropyLoss(label_smoothing=p.get("label_smoothing", 0.0)), "logits", "onehot_labels"
    )],
    ("tf.contrib.losses", "sparse_softmax_cross_entropy"): [contrib(lambda p: losses.CrossEntropyLoss(), "logits")],
    ("tf.contrib.losses", "sigmoid_cross_entropy"): [contrib(
        lambda p: losses.BinaryCrossEntropyLoss(p.get("label_smoothing", 0.0)), "logits", "multi_class_labels"
    )],
    ("tf.contrib.losses", "compute_weighted_loss"): [
        Reading(None, lambda x, p: reduce(x["losses"], x.get("weights", p.get("weights"))))
    ],
    ("tefla", "log_loss_custom"): [plain(
        lambda p: losses.CategoricalCrossEntropyLoss(**p), "predictions", "labels", "multiclass_log_loss"
    )],
    ("tefla", "kappa_loss"): [kappa("quadratic_weighted_kappa", losses.QuadraticWeightedKappaLoss)],
    ("tefla", "kappa_log_loss"): [
        kappa("defauw", losses.KappaLogLoss),
        kappa("unswapped_actual_batch", losses.KappaLogLoss, log_term="binary"),
    ],
    ("tefla", "kappa_log_loss_clipped"): [
        kappa("defauw", losses.ClippedKappaLogLoss),
        kappa("actual_batch", losses.ClippedKappaLogLoss, log_term="binary"),
    ],
    ("tefla", "cross_entropy_loss"): [Reading(None, tefla_cross_entropy)],
    ("tefla", "l1_l2_regularizer"): [Reading(None, penalty)],
    ("tefla", "discretized_mix_logistic_loss"): [Reading(None, mixture)],
    ("tefla", "segment_loss"): [Reading("weighted_cross_entropy", lambda x, p: losses.CrossEntropyLoss(
        class_weight=p.get("head"))(rows(x["logits"]), rows(x["labels"])))],
    ("tefla", "pullaway_loss"): [
        Reading("ebgan_pt", lambda x, p: losses.PullAwayLoss()(x["embeddings"])),
        Reading(None, lambda x, p: losses.PullAwayLoss(squared=False)(x["embeddings"])),
    ],
    ("tefla", "triplet_loss"): [
        triplet(None, *TEFLA_TRIPLET),
        triplet("facenet_sum", *TEFLA_TRIPLET, reduction="sum"),
        triplet("torch_TripletMarginLoss", *TEFLA_TRIPLET, distance="euclidean"),
    ],
    ("tefla", "decov_loss"): [Reading(None, lambda x, p: losses.DeCovLoss()(x["xs"]))],
    ("tflearn", "softmax_categorical_crossentropy"): [plain(lambda p: losses.CrossEntropyLoss(), "y_pred", "y_true")],
    ("tflearn", "categorical_crossentropy"): [
        plain(lambda p: losses.CategoricalCrossEntropyLoss(eps=1e-10, normalize=True), "y_pred", "y_true"),
        plain(lambda p: losses.CrossEntropyLoss(), "y_pred", "y_true", "if_y_pred_were_logits"),
    ],
    ("tflearn", "binary_crossentropy"): [plain(lambda p: losses.BinaryCrossEntropyLoss(), "y_pred", "y_true")],
    ("tflearn", "weighted_crossentropy"): [
        plain(lambda p: losses.BinaryCrossEntropyLoss(pos_weight=p["weight"]), "y_pred", "y_true")
    ],
    ("tflearn", "mean_square"): [plain(lambda p: losses.MSELoss(), "y_pred", "y_true")],
    ("tflearn", "hinge_loss"): [
        plain(lambda p: losses.HingeLoss(labels="signed"), "y_pred", "y_true"),
        plain(lambda p: losses.HingeLoss(labels="binary"), "y_pred", "y_true", "labels01_convention"),
    ],
    ("tflearn", "roc_auc_score"): [plain(lambda p: losses.ROCAUCLoss(reduction="sum"), "y_pred", "y_true")],
    ("tflearn", "weak_cross_entropy_2d"): [Reading(None, lambda x, p: losses.CrossEntropyLoss(
        class_weight=p.get("head"))(channels(x["y_pred"]), channels(x["y_true"])))],
    ("blog", "get_softmax_loss"): [
        plain(lambda p: losses.CrossEntropyLoss(), "features", "one_hot_labels", "cross_entropy"),
        Reading(None, lambda x, p: losses.CrossEntropyLoss()(x["features"], x["one_hot_labels"])
                / x["features"].shape[1]),
    ],
    ("blog", "get_focal_loss"): [
        plain(lambda p: losses.FocalLoss(gamma=p["n"]), "features", "one_hot_labels", "focal_mean_over_samples")
    ],
    ("blog", "compute_triplet_loss"): [triplet("per_row_hinge_mean", *BLOG_TRIPLET)],
    ("blog", "huber_loss"): [contrib(lambda p: losses.HuberLoss(p.get("delta", 1.0), reduction="none"))],
    ("babilim", "SparseCrossEntropyLossFromLogits"): [Reading(None, babilim_cross_entropy)],
    ("babilim", "MeanSquaredError"): [plain(lambda p: losses.MSELoss(), "y_pred", "y_true", "mean_squared_error")],
    ("babilim", "SparseCategoricalAccuracy"): [Reading(
        "accuracy", lambda x, p: losses.CategoricalAccuracy()(channels(x["y_pred"]), x["y_true"])
    )],
}  # fmt: skip

INDICES = {"sparse_softmax_cross_entropy": "labels", "SparseCrossEntropyLossFromLogits": "y_true",
           "SparseCategoricalAccuracy": "y_true", "center_loss": "labels", "get_center_loss": "labels"}  # fmt: skip


def number(value: Any) -> Any:
    """Turn the strings "nan", "inf" and "-inf" into numbers, in lists of any depth."""
    return [number(v) for v in value] if isinstance(value, list) else float(value)


def tensor(value: Any, dtype: torch.dtype) -> Tensor:
    return torch.tensor(number(value), dtype=dtype)


def inputs_of(case: dict, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the case's inputs, those that have a gradient as leaves that want one."""
    indices = INDICES.get(case["function"])
    inputs = {name: tensor(value, torch.int64 if name == indices else dtype) for name, value in case["inputs"].items()}
    for name in case["expected"].get("grad") or {}:
        inputs[name].requires_grad_()
    return inputs
