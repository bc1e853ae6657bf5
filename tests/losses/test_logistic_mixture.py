"""Mixtures of logistics with parameters of any size have finite values and gradients, in batches of any size."""

import pytest
import torch
from torch import Tensor

from lossframe.losses.algorithms import logistic_mixture

SCALES = [1e-30, 1.0, 1e4, 1e10, 1e20, 1e30]


def drawn(scale: float, channels: int, kinds: int, ties: bool) -> tuple[Tensor, Tensor]:
    """Return the parameters of two components, perhaps of few different sizes, and images."""
    parameters = torch.randn(20, 2 * kinds, 2, 2)
    parameters = scale * (parameters.sign() * (parameters.abs() > 0.5) if ties else parameters)
    return parameters, torch.randint(0, 256, (20, channels, 2, 2)) / 127.5 - 1


def both_ways(parameters: Tensor, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return values and gradient by the formula that autograd follows, and in closed form."""
    leaf = parameters.detach().requires_grad_()
    values = logistic_mixture._values(leaf, image, k=2)
    slopes = torch.empty_like(parameters)
    closed = logistic_mixture._values_and_slopes(parameters, image, slopes, k=2)
    return [values.detach(), torch.autograd.grad(values.sum(), leaf)[0]], [closed, slopes]


def assert_close(found: list[Tensor], wanted: list[Tensor], tolerance: float) -> None:
    for mine, exact in zip(found, wanted, strict=True):
        largest = float(exact.double().abs().amax())
        torch.testing.assert_close(mine.double(), exact.double(), rtol=tolerance, atol=tolerance * largest)


@pytest.mark.parametrize(("channels", "kinds"), [(3, 10), (1, 3)])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("ties", [False, True])
def test_parameters_of_any_size_give_finite_values_and_gradients(
    channels: int, kinds: int, scale: float, ties: bool
) -> None:
    torch.manual_seed(0)
    parameters, image = drawn(scale, channels, kinds, ties)
    found, closed = both_ways(parameters, image)
    exact, _ = both_ways(parameters.double(), image.double())
    assert all(tensor.isfinite().all() for tensor in found + closed)
    assert_close(closed, found, 1e-5 if scale <= 1 else 1e-4)
    assert_close(found[:1], exact[:1], 1e-5)
    if scale <= 1:  # else it is a matter of rounding which of two components explains a pixel
        assert_close(found, exact, 1e-4)
