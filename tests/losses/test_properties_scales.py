"""Values and gradients of float32, float16 and bfloat16 inputs equal float64's of the same numbers, at every scale.

A value may be infinite where float64's rounds to infinity as well; no value leaves the loss's range.
"""

from typing import Any

import plain
import pytest
import torch
from table import TABLE, Inputs, options
from torch import Tensor

from lossframe import Loss
from lossframe import losses as catalogue
from lossframe.losses.regression import Regression

SCALES = (1e-30, 1e-20, 1e-10, 1.0, 1e10, 1e20, 1e30)
OFFSETS = (1e3, 1e6, 1e9)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
N = 9
SCALED = [loss for loss, row in TABLE.items() if loss.reads and "scale" not in row.excused]
MOVED = [loss for loss in SCALED if "offset" not in TABLE[loss].excused]
CASES = [
    pytest.param(loss, dtype, scale, id=f"{loss.__name__}-{str(dtype).removeprefix('torch.')}-{scale:g}")
    for loss in SCALED
    for dtype in DTYPES
    for scale in SCALES
    if 1e-3 * torch.finfo(dtype).smallest_normal < scale < torch.finfo(dtype).max / 100
]


@pytest.fixture(autouse=True)
def _one_thread(threads: None) -> None:
    torch.set_num_threads(1)


def numbers(loss_class: type[Loss], inputs: Inputs) -> list[str]:
    """Name the inputs that may be of any size."""
    targets = issubclass(loss_class, Regression | catalogue.GaussianNLLLoss)
    return [
        name for name, t in inputs.items() if t.is_floating_point() and (name not in ("target", "image") or targets)
    ]


def drawn(loss_class: type[Loss], dtype: torch.dtype, scale: float, offset: float = 0.0) -> Inputs:
    inputs = TABLE[loss_class].inputs(N, torch.Generator().manual_seed(3))
    for name in numbers(loss_class, inputs):
        inputs[name] = inputs[name] * scale + (0 if name == "variance" else offset)
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in inputs.items()}


def with_gradients(value: Any, inputs: Inputs, names: list[str]) -> tuple[Tensor, dict[str, Tensor]]:
    inputs = {name: t.detach().clone().requires_grad_(name in names) for name, t in inputs.items()}
    result = value(inputs)
    if not result.requires_grad:
        return result, {}
    found = torch.autograd.grad(result, [inputs[name] for name in names], materialize_grads=True)
    return result.detach(), dict(zip(names, found, strict=True))


def assert_rounds_to(found: Tensor, wanted: Tensor, what: str, rtol: float) -> None:
    """Require float64's numbers, rounded to the dtype: what is too large is infinite, what is too small 0."""
    info = torch.finfo(found.dtype)
    rtol = max(rtol, 2 * info.eps)
    too_large = wanted.abs() > info.max * (1 - rtol)
    assert (found.isfinite() | too_large).all(), f"{what}: found {found}, wanted {wanted}"
    assert (found.isfinite() | (found.sign() == wanted.sign())).all()
    largest = wanted[~too_large].abs().amax().item() if (~too_large).any() else 0.0
    atol = max(16 * info.smallest_normal, 1e-2 * rtol * largest)
    torch.testing.assert_close(
        found[~too_large].double(), wanted[~too_large], rtol=rtol, atol=atol, msg=lambda m: f"{what}: {m}"
    )


OF_DIRECTIONS = (catalogue.CosineDistanceLoss, catalogue.NTXentLoss, catalogue.PullAwayLoss, catalogue.SupConLoss)


def tolerances(criterion: Loss, spread: float) -> tuple[float, float]:
    """Return how far a value and a gradient may be off, in float32, for inputs of some spread around an offset.

    Directions that differ by the spread alone are told apart as well as unit vectors of float32 allow.
    """
    if isinstance(criterion, OF_DIRECTIONS) or getattr(criterion, "distance", None) == "cosine":
        rounding = 32 * torch.finfo(torch.float32).eps / spread
        return max(1e-5, rounding), max(1e-4, rounding)
    return 1e-5, 1e-4


def check(loss_class: type[Loss], inputs: Inputs, spread: float = 1.0) -> None:
    low, high = TABLE[loss_class].range
    names = numbers(loss_class, inputs) if TABLE[loss_class].gradient else []
    for chosen in options(loss_class):
        criterion = loss_class(**chosen).eval()
        value, of_inputs = with_gradients(lambda x, c=criterion: c(**x), inputs, names)
        wanted, of_wide = with_gradients(lambda x, c=criterion: plain.reduced(c, x), plain.wide(inputs), names)
        of_value, of_gradient = tolerances(criterion, spread)
        assert_rounds_to(value, wanted, f"{criterion}", of_value)
        if chosen is TABLE[loss_class].options:
            assert low <= value <= high
        for name, gradient in of_inputs.items():
            assert gradient.dtype == inputs[name].dtype
            assert_rounds_to(gradient, of_wide[name], f"{criterion}, gradient of {name}", of_gradient)


@pytest.mark.parametrize(("loss_class", "dtype", "scale"), CASES)
def test_scale_of_inputs_loses_nothing(loss_class: type[Loss], dtype: torch.dtype, scale: float) -> None:
    check(loss_class, drawn(loss_class, dtype, scale))


@pytest.mark.parametrize("loss_class", MOVED, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("spread", [1e-4, 1e-2])
def test_offset_of_float32_inputs_loses_nothing(loss_class: type[Loss], offset: float, spread: float) -> None:
    check(loss_class, drawn(loss_class, torch.float32, offset * spread, offset), spread)
