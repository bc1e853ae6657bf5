"""Regression: elementwise penalties on `prediction - target`, of any shape, one value per element."""

from typing import Unpack

from torch import Tensor
from torch.nn import functional as F

from lossframe import checks
from lossframe.loss import Loss, LossOptions


class Regression(Loss):
    """Abstract base of the losses on a prediction and a target of the same shape."""

    def check(self, prediction: Tensor, target: Tensor) -> None:
        """Require a floating prediction, and a target of its shape."""
        checks.floating(prediction=prediction)
        checks.same_shape(prediction=prediction, target=target)

    def check_values(self, prediction: Tensor, target: Tensor) -> None:
        """Require finite targets."""
        checks.finite(target=target)


class MSELoss(Regression):
    r"""Mean squared error, $(p - t)^2$.

    Source: `tf.contrib.losses.mean_squared_error`, `tflearn.objectives.mean_square`, babilim `MeanSquaredError`.

    >>> import torch
    >>> MSELoss()(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
    tensor(2.)
    """

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per element."""
        return F.mse_loss(prediction, target.to(prediction.dtype), reduction="none")


class HuberLoss(Regression):
    r"""Quadratic near zero, linear beyond: with $e = |p - t|$, $e^2/2$ if $e \le \delta$, else $\delta(e - \delta/2)$.

    Source: Huber (1964), https://doi.org/10.1214/aoms/1177703732.

    >>> import torch
    >>> HuberLoss(delta=1.0)(torch.tensor([0.5, 3.0]), torch.tensor([0.0, 0.0]))
    tensor(1.3125)
    """

    def __init__(self, delta: float = 1.0, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.delta = checks.positive(delta=delta)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per element."""
        return F.huber_loss(prediction, target.to(prediction.dtype), reduction="none", delta=self.delta)
