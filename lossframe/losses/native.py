"""Other people's losses, made ours."""

import copy
import inspect
from collections.abc import Callable
from typing import Any, Unpack

from torch import Tensor, nn

from lossframe.losses.base import checks
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.options import LossOptions, positional_parameters

_ELEMENTWISE = (
    nn.L1Loss, nn.MSELoss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCELoss, nn.BCEWithLogitsLoss, nn.SoftMarginLoss,
    nn.PoissonNLLLoss, nn.MultiLabelSoftMarginLoss,
)  # fmt: skip


class NativeLoss(Loss):
    """Makes any other loss one of ours: a callable or module `(prediction, target)`, or `(y_pred, y_true, log_val)`.

    It may return a scalar or values of any shape; inputs may be tensors, or tuples, dicts and named tuples of
    tensors. A third parameter gets `log` if it has no default, or is called `log_val`. `relational=True` (the default)
    makes no assumption: on N ranks the callable sees the whole batch. Elementwise criteria of `torch.nn` (no subclass
    of them) are recognised, broadcast nothing, and are evaluated unreduced on each rank's own samples.

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
        self.native = loss
        self.elementwise = type(loss) in _ELEMENTWISE
        self.relational = relational
        self.takes_log = _takes_log(loss.forward if isinstance(loss, nn.Module) else loss)
        if self.elementwise and loss.reduction == "mean":  # type: ignore[attr-defined]
            self.native = copy.copy(loss)
            self.native.reduction = "none"  # type: ignore[attr-defined]
            self.relational = False
        if self.elementwise:
            self.core_dims = ()

    def check(self, prediction: Any, target: Any) -> None:
        """Require equal shapes for an elementwise criterion; of others, refuse what would only be broadcast."""
        if self.elementwise:
            checks.same_shape(prediction=prediction, target=target)
        super().check(prediction=prediction, target=target)

    def loss(self, prediction: Any, target: Any) -> Tensor:
        """Return whatever the callable returns."""
        return self.native(prediction, target, self.log) if self.takes_log else self.native(prediction, target)


def _takes_log(function: Callable[..., Tensor]) -> bool:
    """Return whether the third parameter given by position has no default, or is called as babilim calls its log."""
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # a builtin, as many functions of torch are: it tells nothing, and knows no log
        return False
    third = positional_parameters(function)[2:3]
    return any(name == "log_val" or parameters[name].default is inspect.Parameter.empty for name in third)
