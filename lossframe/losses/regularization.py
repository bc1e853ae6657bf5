"""Regularisation: penalties on a model's parameters, and those that a model gives itself."""

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor

from lossframe.losses.base import checks
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.options import LossOptions
from lossframe.losses.base.penalty import Penalty, total


class L1L2Penalty(Penalty):
    r"""Weight decay as a loss: $l_1 \sum \lvert w \rvert + \frac{l_2}{2} \sum w^2$.

    Penalises the parameters named `weight` outside normalisations, or those whose name matches the glob `pattern`.
    Source: Goodfellow (2016), https://www.deeplearningbook.org/contents/regularization.html.

    Coming from tefla `l1_l2_regularizer`: the same, for all weights of a model at once.

    >>> from torch import nn
    >>> model = nn.Linear(2, 1, bias=False)
    >>> _ = nn.init.constant_(model.weight, 2.0)
    >>> L1L2Penalty(l1=1.0, l2=0.5)(model)
    tensor(6., grad_fn=<DivBackward0>)
    """

    def __init__(
        self, l1: float = 0.0, l2: float = 1e-4, pattern: str | None = None, **options: Unpack[LossOptions]
    ) -> None:
        super().__init__(pattern, **options)
        self.l1 = checks.not_negative(l1=l1)
        self.l2 = checks.not_negative(l2=l2)

    def penalty(self, parameters: Sequence[Tensor]) -> Tensor:
        """Return the weighted sum of both norms, as a scalar."""
        return total([self._of(parameter) for parameter in parameters])

    def _of(self, parameter: Tensor) -> Tensor:
        # a norm of factor 0 is left out, for 0 times an overflow is NaN
        sizes = [self.l1 * parameter.abs().sum()] if self.l1 else []
        squares = [(self.l2 / 2 * parameter * parameter).sum()] if self.l2 else []
        return sum(sizes + squares, parameter[..., :0].sum())


class AuxiliaryLoss(Loss):
    """An entry that the model itself put into its frame, as a load-balancing or a commitment loss: $v$.

    Reads `value` $v$, of any shape; it is reduced as the values of any loss. `criterion(value, count=n)` says that a
    scalar is the mean of $n$ values; by default $n$ is 1, and in an objective the number of samples in the frame.
    Source: tf.contrib.losses,
    https://github.com/tensorflow/tensorflow/blob/v1.15.0/tensorflow/contrib/losses/python/losses/loss_ops.py.

    Coming from tf.contrib.losses `add_loss`: a named term, instead of a collection that all losses share.

    >>> import torch
    >>> AuxiliaryLoss()(torch.tensor([1.0, 2.0]))
    tensor(1.5000)
    """

    core_dims = ()

    def check(self, value: Tensor) -> None:
        """Require a floating value."""
        checks.floating(value=value)

    def loss(self, value: Tensor) -> Tensor:
        """Return the value."""
        return value
