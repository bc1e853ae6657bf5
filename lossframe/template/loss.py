"""The loss: the base class checks the inputs, and weighs, reduces and records the values."""

from torch import Tensor

from lossframe import Loss


class LogCoshLoss(Loss):
    """Quadratic for small errors and linear for large ones: log cosh(prediction - target)."""

    core_dims = ()  # elementwise

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per entry."""
        return (prediction - target).cosh().log()
