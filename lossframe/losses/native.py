"""`NativeLoss` wraps any callable or `nn.Module` criterion as a `Loss`, and evaluates those of `torch.nn` unreduced."""

import copy
import inspect
from collections.abc import Callable
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from lossframe import distributed
from lossframe.errors import InputError
from lossframe.losses.algorithms import class_targets
from lossframe.losses.base import checks
from lossframe.losses.base.inputs import Batch
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.options import LossOptions, positional_parameters
from lossframe.losses.base.reduction import Reduced, Weighed
from lossframe.losses.base.tracing import is_readable
from lossframe.losses.base.wanted import criterion_remedy

_EQUAL_SHAPES = (
    nn.L1Loss, nn.MSELoss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCELoss, nn.BCEWithLogitsLoss, nn.SoftMarginLoss,
    nn.PoissonNLLLoss, nn.MultiLabelSoftMarginLoss,
)  # fmt: skip
"""Criteria that broadcast inputs of different shapes, perhaps with a warning."""
_OF_CLASS_INDICES = (nn.CrossEntropyLoss, nn.NLLLoss)
"""Criteria whose "mean" divides by the class weights of the targets that are not ignored."""
_OF_CHUNKS = tuple(getattr(nn, name) for name in ("LinearCrossEntropyLoss",) if hasattr(nn, name))  # since torch 2.13
"""Criteria with such a mean whose unreduced values would take the memory that they save."""
_ROWS = (*_OF_CLASS_INDICES, nn.MultiMarginLoss, nn.MultiLabelMarginLoss)
_ELEMENTWISE = (*_EQUAL_SHAPES, nn.KLDivLoss, nn.HingeEmbeddingLoss)


class NativeLoss(Loss):
    """Makes any other loss one of ours: a callable or module `(prediction, target)`, or `(y_pred, y_true, log_val)`.

    It may return a scalar or values of any shape; inputs may be tensors, or tuples, dicts and named tuples of
    tensors. A third parameter gets `log` if it has no default, or is called `log_val`. `relational=True` (the default)
    makes no assumption: on N ranks the callable sees the whole batch. Criteria of `torch.nn` that read two inputs (no
    subclass of them) are recognised, and are evaluated unreduced on each rank's own samples. Of any other callable, a
    scalar is recorded as the mean of its batch: as many values as the first input has samples, or `count` of the call.

    Coming from babilim `NativeLossWrapper`: the same, and exact on any number of ranks.

    >>> import torch
    >>> criterion = NativeLoss(nn.MSELoss())
    >>> criterion(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
    tensor(2.)
    >>> criterion.avg
    {'loss': 2.0}
    """

    def __init__(self, loss: Callable[..., Tensor], relational: bool = True, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        if remedy := criterion_remedy(loss):
            raise InputError(f"NativeLoss {remedy}")
        self.native = loss
        self.recognised = _is_recognised(loss)
        self.relational = relational and not self.recognised
        self.takes_log = _takes_log(loss.forward if isinstance(loss, nn.Module) else loss)
        self._reduces: Callable[..., Tensor] | None = None
        self._result: Tensor | None = None
        self._exactly = False
        if self.recognised:
            self._evaluate_unreduced(loss)

    def _evaluate_unreduced(self, loss: Any) -> None:
        """Let torch's criterion return values, and reduce them here as torch would."""
        self.native = copy.copy(loss)
        self.native.reduction = "none"  # type: ignore[attr-defined]
        self.per_row = loss.reduction == "batchmean"
        self.weighs_classes = type(loss) in _OF_CLASS_INDICES and loss.reduction != "none"
        if loss.reduction == "sum" and self.reduction != "none":
            self.reduction = "sum"
        in_torch = "sum" if loss.reduction == "sum" else "mean"
        if loss.reduction != "none" and self.reduction == in_torch and (self.per_row or type(loss) in _ROWS):
            self._reduces = loss
        if not self.per_row:
            self.core_dims = () if type(loss) in _ELEMENTWISE else (1,)

    def check(self, prediction: Any, target: Any) -> None:
        """Require equal shapes for an elementwise criterion; of others, refuse what would only be broadcast."""
        if type(self.native) in _EQUAL_SHAPES:
            checks.same_shape(prediction=prediction, target=target)
        super().check(prediction=prediction, target=target)

    def loss(self, prediction: Any, target: Any) -> Tensor:
        """Return whatever the callable returns; of "batchmean", the sum over each sample."""
        if self.takes_log:
            return self.native(prediction, target, self.log)
        if self._exactly and self._reduces is not None:
            self._result = self._reduces(prediction, target)
        values = self.native(prediction, target)
        return values.flatten(1).sum(1) if self.recognised and self.per_row and values.ndim > 1 else values

    def counts(self, prediction: Any, target: Any) -> Tensor | None:
        """Return the class weight of each target, 0 for ignored ones, where torch's "mean" divides by their sum."""
        return self._class_weights(target) if self.recognised and self.weighs_classes else None

    def _class_weights(self, target: Tensor) -> Tensor | None:
        """Return the class weight of each target, 0 for ignored ones; None if all are 1."""
        if target.is_floating_point():
            return None
        index, weight = self.native.ignore_index, self.native.weight  # type: ignore[attr-defined]
        ignored = None if index is None else class_targets.ignored(target, index)
        if weight is None:
            return None if ignored is None else ~ignored
        of_target: Tensor = weight[target if ignored is None else target.masked_fill(ignored, 0)]
        return of_target if ignored is None else torch.where(ignored, 0, of_target)

    def _evaluate(self, batch: Batch) -> Tensor:
        """Evaluate a batch, on a CPU also by torch's own reduction: the sums of both differ in the last digit."""
        alone = batch.weight is None and batch.count is None and distributed.world_size() == 1
        self._exactly = alone and batch.on_cpu and self._reduces is not None and self._compiled is None
        try:
            return super()._evaluate(batch)
        finally:
            self._exactly, self._result = False, None

    def _reduced(self, weighed: Weighed, carried: Tensor | None, batch: Batch) -> Reduced:
        """Reduce the values; where torch has done so, return its result, unless that is a mean of nothing."""
        reduced = super()._reduced(weighed, carried, batch)
        if self._result is None or not weighed.values.numel() or not reduced.denominator:
            return reduced
        return reduced._replace(result=self._result)

    def _samples(self, values: Tensor, batch: Batch) -> Tensor | float:
        """Return 1 for a recognised criterion: a scalar is then the value of an input without a batch dimension."""
        if self.recognised and batch.count is None:
            return 1.0
        samples = super()._samples(values, batch)
        if batch.count is not None or values.ndim or type(self.native) not in (nn.CrossEntropyLoss, *_OF_CHUNKS):
            return samples
        weights = self._class_weights(batch.inputs["target"])
        if weights is None:
            return samples
        total = weights.sum()
        return total.item() if is_readable(total) else total


def _is_recognised(loss: Any) -> bool:
    """Return whether the values of a criterion recombine: not where a target of weight 0 is smoothed, and costs."""
    if type(loss) is nn.CrossEntropyLoss and loss.label_smoothing and loss.weight is not None:
        return bool((loss.weight != 0).all())
    return type(loss) in (*_ROWS, *_ELEMENTWISE)


def _takes_log(function: Callable[..., Tensor]) -> bool:
    """Return whether the third parameter given by position has no default, or is called as babilim calls its log."""
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # a builtin, as many functions of torch are: it tells nothing, and knows no log
        return False
    third = positional_parameters(function)[2:3]
    return any(name == "log_val" or parameters[name].default is inspect.Parameter.empty for name in third)
