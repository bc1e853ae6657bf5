"""Knows the criteria of `torch.nn`: how to evaluate each unreduced, and what its own reduction divides by."""

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lossframe.losses.algorithms import class_targets
from lossframe.losses.base.masking import CoreDims


@dataclass(frozen=True)
class Criterion:
    """What is known of a criterion's unreduced values.

    `core_dims` are the dimensions that one value reads as a whole, see `Loss.core_dims`. `same_shape` says that the
    criterion would broadcast its first two inputs; `checks_shapes`, that it checks all of them itself. `by_rows` says
    that its own sum has another last digit than the sum of its values.
    """

    core_dims: CoreDims | None
    same_shape: bool = False
    checks_shapes: bool = False
    by_rows: bool = False


_BROADCASTING, _ELEMENTWISE, _OF_ROWS = Criterion((), same_shape=True), Criterion(()), Criterion((1,), by_rows=True)
CRITERIA: dict[type[nn.Module], Criterion] = {
    nn.AdaptiveLogSoftmaxWithLoss: Criterion((1,), checks_shapes=True),
    nn.BCELoss: _BROADCASTING,
    nn.BCEWithLogitsLoss: _BROADCASTING,
    nn.CosineEmbeddingLoss: Criterion((-1,), checks_shapes=True),
    nn.CrossEntropyLoss: _OF_ROWS,
    nn.CTCLoss: Criterion((0, 2), checks_shapes=True),
    nn.GaussianNLLLoss: Criterion((), checks_shapes=True),
    nn.HingeEmbeddingLoss: _ELEMENTWISE,
    nn.HuberLoss: _BROADCASTING,
    nn.KLDivLoss: _ELEMENTWISE,
    nn.L1Loss: _BROADCASTING,
    nn.MarginRankingLoss: _ELEMENTWISE,
    nn.MSELoss: _BROADCASTING,
    nn.MultiLabelMarginLoss: _OF_ROWS,
    nn.MultiLabelSoftMarginLoss: Criterion((1,), same_shape=True),
    nn.MultiMarginLoss: _OF_ROWS,
    nn.NLLLoss: _OF_ROWS,
    nn.PoissonNLLLoss: _BROADCASTING,
    nn.SmoothL1Loss: _BROADCASTING,
    nn.SoftMarginLoss: _BROADCASTING,
    nn.TripletMarginLoss: Criterion((-1,)),
    nn.TripletMarginWithDistanceLoss: Criterion(None),
}
"""Criteria whose unreduced values depend on one sample each, and recombine to their own reduction."""
OF_CLASS_INDICES = (nn.CrossEntropyLoss, nn.NLLLoss)
"""Criteria whose "mean" divides by the class weights of the targets that are not ignored."""
OF_CHUNKS = tuple(getattr(nn, name) for name in ("LinearCrossEntropyLoss",) if hasattr(nn, name))  # since torch 2.13
"""Criteria with such a mean whose unreduced values would take the memory that they save."""
_FUNCTIONS: dict[Callable[..., Any], type[nn.Module]] = {
    F.binary_cross_entropy: nn.BCELoss,
    F.binary_cross_entropy_with_logits: nn.BCEWithLogitsLoss,
    F.cosine_embedding_loss: nn.CosineEmbeddingLoss,
    F.cross_entropy: nn.CrossEntropyLoss,
    F.ctc_loss: nn.CTCLoss,
    F.gaussian_nll_loss: nn.GaussianNLLLoss,
    F.hinge_embedding_loss: nn.HingeEmbeddingLoss,
    F.huber_loss: nn.HuberLoss,
    F.kl_div: nn.KLDivLoss,
    F.l1_loss: nn.L1Loss,
    F.margin_ranking_loss: nn.MarginRankingLoss,
    F.mse_loss: nn.MSELoss,
    F.multi_margin_loss: nn.MultiMarginLoss,
    F.multilabel_margin_loss: nn.MultiLabelMarginLoss,
    F.multilabel_soft_margin_loss: nn.MultiLabelSoftMarginLoss,
    F.nll_loss: nn.NLLLoss,
    F.poisson_nll_loss: nn.PoissonNLLLoss,
    F.smooth_l1_loss: nn.SmoothL1Loss,
    F.soft_margin_loss: nn.SoftMarginLoss,
    F.triplet_margin_loss: nn.TripletMarginLoss,
    F.triplet_margin_with_distance_loss: nn.TripletMarginWithDistanceLoss,
}
"""Functions of `torch.nn.functional`, and the criteria that call them with their parameters as keywords."""


def of_function(loss: Any) -> Any:
    """Return the criterion of a function of `torch.nn.functional`, also in a partial; other callables unchanged."""
    function, bound = loss, {}
    if isinstance(loss, functools.partial) and not loss.args:
        function, bound = loss.func, loss.keywords
    criterion = _FUNCTIONS.get(function) if not isinstance(function, nn.Module) else None
    try:
        return loss if criterion is None else criterion(**bound)
    except TypeError:  # a keyword that is an input of the criterion
        return loss


def recognised(loss: Any) -> Criterion | None:
    """Return what is known of a criterion; None of others, and where a target of weight 0 is smoothed, and costs."""
    if type(loss) is nn.CrossEntropyLoss and loss.label_smoothing and loss.weight is not None:
        return CRITERIA[nn.CrossEntropyLoss] if bool((loss.weight != 0).all()) else None
    return CRITERIA.get(type(loss))


def unreduced(loss: Any) -> Any:
    """Return a copy of a criterion that returns values instead of their mean or sum."""
    native = copy.copy(loss)
    if hasattr(loss, "reduction"):
        native.reduction = "none"
    return native


def values(native: nn.Module, result: Any, inputs: Mapping[str, Any], reduction: str) -> Tensor:
    """Return the values whose mean or sum is that of a criterion, from its unreduced result."""
    if type(native) is nn.AdaptiveLogSoftmaxWithLoss:
        result = -result.output
    found: Tensor = result
    if reduction == "batchmean":
        return found.flatten(1).sum(1) if found.ndim > 1 else found
    if type(native) is nn.CTCLoss and reduction == "mean":
        return found / torch.as_tensor(inputs["target_lengths"], device=found.device).clamp_min(1)
    return found


def evaluated(native: nn.Module, reduces: Any, inputs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Return a criterion's unreduced result and its own reduction of two inputs, sharing what is common to both."""
    prediction, target = inputs["prediction"], inputs["target"]
    if type(reduces) is not nn.CrossEntropyLoss or target.is_floating_point() or reduces.label_smoothing:
        return native(prediction, target), reduces(prediction, target)
    log_p = prediction.log_softmax(1 if prediction.ndim > 1 else 0)
    options = (log_p, target, reduces.weight)
    result = F.nll_loss(*options, ignore_index=reduces.ignore_index, reduction=reduces.reduction)
    return F.nll_loss(*options, ignore_index=reduces.ignore_index, reduction="none"), result


def class_weights(native: Any, target: Tensor) -> Tensor | None:
    """Return the class weight of each target, 0 for ignored ones; None if all are 1."""
    if target.is_floating_point():
        return None
    index, weight = native.ignore_index, native.weight
    ignored = None if index is None else class_targets.ignored(target, index)
    if weight is None:
        return None if ignored is None else ~ignored
    of_target: Tensor = weight[target if ignored is None else target.masked_fill(ignored, 0)]
    return of_target if ignored is None else torch.where(ignored, 0, of_target)
