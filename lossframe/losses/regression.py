"""Regression: penalties on a `prediction` and a `target` of the same shape, most of them elementwise."""

import math
from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from lossframe.losses.algorithms.rows import exactly, rowwise
from lossframe.losses.base import checks
from lossframe.losses.base.loss import Loss
from lossframe.losses.base.options import LossOptions


class Regression(Loss):
    """Abstract base of the losses on a prediction and a target of the same shape."""

    invalid_gives_nonfinite = True
    core_dims: tuple[int, ...] | None = ()

    def check(self, prediction: Tensor, target: Tensor) -> None:
        """Require a floating prediction, and a target of its shape."""
        checks.elementwise(target, prediction=prediction)

    def check_values(self, prediction: Tensor, target: Tensor) -> None:
        """Require finite targets."""
        checks.finite(target=target)


class L1Loss(Regression):
    r"""Absolute difference, $\lvert p - t \rvert$.

    Source: tf.contrib.losses,
    https://github.com/tensorflow/tensorflow/blob/v1.15.0/tensorflow/contrib/losses/python/losses/loss_ops.py.

    Coming from tf.contrib.losses `absolute_difference`: the same.

    >>> import torch
    >>> L1Loss()(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
    tensor(1.)
    """

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per element."""
        return F.l1_loss(prediction, target.to(prediction.dtype), reduction="none")


class MSELoss(Regression):
    r"""Mean squared error, $(p - t)^2$.

    Source: tf.contrib.losses,
    https://github.com/tensorflow/tensorflow/blob/v1.15.0/tensorflow/contrib/losses/python/losses/loss_ops.py.

    Coming from tf.contrib.losses `mean_squared_error`: the same.
    Coming from tflearn `mean_square`: the same.
    Coming from babilim `MeanSquaredError`: the mean over all elements; an early version averaged the last axis only.

    >>> import torch
    >>> MSELoss()(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
    tensor(2.)
    """

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per element."""
        return F.mse_loss(prediction, target.to(prediction.dtype), reduction="none")


class HuberLoss(Regression):
    r"""Quadratic near zero, linear beyond: $e^2/2$ if $e \le \delta$, else $\delta (e - \delta/2)$, with
    $e = \lvert p - t \rvert$.

    Source: Huber (1964), https://doi.org/10.1214/aoms/1177703732.

    Coming from blog `huber_loss`: the prediction comes first; `reduction="none"` gives its values.

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


class MeanPairwiseSquaredErrorLoss(Regression):
    r"""Are differences between elements right: $\frac{2}{n (n - 1)} \sum_{i < j} (d_i - d_j)^2$, one value per sample.

    $d = p - t$ are the $n$ elements of a sample, so that a constant offset costs nothing; one element gives 0. It is
    $\frac{2}{n - 1} \sum_i (d_i - \bar d)^2$, in linear time.
    Source: tf.contrib.losses,
    https://github.com/tensorflow/tensorflow/blob/v1.15.0/tensorflow/contrib/losses/python/losses/loss_ops.py.

    Coming from tf.contrib.losses `mean_pairwise_squared_error`: "sum" is what its documentation says, n / (n - 1) times
    what its code gives.

    >>> import torch
    >>> MeanPairwiseSquaredErrorLoss()(torch.tensor([[4.0, 8.0, 12.0]]), torch.tensor([[1.0, 9.0, 2.0]]))
    tensor(62.)
    """

    core_dims = None

    def check(self, prediction: Tensor, target: Tensor) -> None:
        """Require a floating prediction `[N, ...]`, and a target of its shape."""
        checks.dimensions("[N, ...]", 1, None, prediction=prediction)
        super().check(prediction, target)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per sample."""
        elements = math.prod(prediction.shape[1:])
        d = (prediction.double() - target.double()).reshape(len(prediction), elements)  # an offset takes no digits
        squares = (d - d.mean(1, keepdim=True)).square().sum(1)
        return (2 / max(elements - 1, 1) * squares).to(prediction.dtype)


class CosineDistanceLoss(Regression):
    r"""One minus the inner product along `dim`, $1 - \sum_k p_k t_k$, one value per vector.

    The vectors are taken as they are; `normalize` divides them by their lengths first, and a zero vector has distance
    1.
    Source: tf.contrib.losses,
    https://github.com/tensorflow/tensorflow/blob/v1.15.0/tensorflow/contrib/losses/python/losses/loss_ops.py.

    Coming from tf.contrib.losses `cosine_distance`: the same; it too takes unit vectors for granted.

    >>> import torch
    >>> CosineDistanceLoss(normalize=True)(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0]]))
    tensor(0.4000)
    """

    def __init__(self, dim: int = -1, normalize: bool = False, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.dim = checks.whole(dim=dim)
        self.core_dims = (self.dim,)
        self.normalize = normalize

    def check(self, prediction: Tensor, target: Tensor) -> None:
        """Require a floating prediction with vectors along `dim`, and a target of its shape."""
        super().check(prediction, target)
        checks.inner_dim(self.dim, prediction=prediction)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per vector."""
        p, t = prediction.movedim(self.dim, -1), target.to(prediction.dtype).movedim(self.dim, -1)
        values = rowwise(p, t, "cosine") if self.normalize else exactly(_one_minus_product, p, t, 2.0**-7, 2.0**80)
        return values.to(prediction.dtype)


def _one_minus_product(x: Tensor, y: Tensor) -> Tensor:
    return 1 - (x * y).sum(-1)


class QuantileLoss(Regression):
    r"""The pinball loss, whose minimum is a quantile: $\max(q\, e, (q - 1)\, e)$ with $e = t - p$.

    Source: Koenker & Bassett (1978), https://doi.org/10.2307/1913643.

    >>> import torch
    >>> QuantileLoss(quantile=0.9)(torch.tensor([0.0, 0.0]), torch.tensor([1.0, -1.0]))
    tensor(0.5000)
    """

    def __init__(self, quantile: float, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.quantile = checks.fraction(quantile=quantile)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one value per element."""
        error = target.to(prediction.dtype) - prediction
        return error.relu() * self.quantile + (-error).relu() * (1 - self.quantile)


class GaussianNLLLoss(Loss):
    r"""Negative log-likelihood of a Gaussian, without its constant: $\frac12 (\log v + (p - t)^2 / v)$.

    Reads `prediction` $p$, `target` $t$ and `variance` $v$, all of one shape; a variance below `eps` counts as `eps`,
    and has the gradient of `eps`.
    Source: Nix & Weigend (1994), https://doi.org/10.1109/ICNN.1994.374138.

    >>> import torch
    >>> GaussianNLLLoss()(torch.tensor([1.0]), torch.tensor([3.0]), torch.tensor([2.0]))
    tensor(1.3466)
    """

    core_dims = ()

    def __init__(self, eps: float = 1e-6, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.eps = checks.positive(eps=eps)

    def check(self, prediction: Tensor, target: Tensor, variance: Tensor) -> None:
        """Require a floating prediction and variance, and a target, all of one shape."""
        checks.elementwise(target, prediction=prediction, variance=variance)

    def check_values(self, prediction: Tensor, target: Tensor, variance: Tensor) -> None:
        """Require finite targets, and no negative variance."""
        checks.finite(target=target)
        checks.within(0, float("inf"), variance=variance)

    def loss(self, prediction: Tensor, target: Tensor, variance: Tensor) -> Tensor:
        """Return one value per element."""
        missing = torch.where(variance < self.eps, self.eps - variance, 0)
        variance, error = variance + missing.detach(), prediction - target.to(prediction.dtype)
        return (variance.log() + error * (error / variance)) / 2  # the error's square may overflow
