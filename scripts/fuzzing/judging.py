"""What comes of a case: a value and gradients that float64 confirms, a documented error, or a failure."""

import warnings
from collections.abc import Callable
from contextlib import nullcontext

import plain
import torch
from plain_batches import undecided
from torch import Tensor

from fuzzing.cases import Case, Inputs
from lossframe import InputError
from lossframe.errors import NonFiniteError

RTOL = {torch.float32: 2e-5, torch.float64: 1e-8}
"""Of a value; a gradient may be off by ten times that."""
_OF_DIRECTIONS = 1e-5
"""How much rounding changes a gradient by directions, of 1 / length."""
NUDGES = 6
"""How many times the inputs are moved by rounding, where a value or a gradient jumps."""


class FailureError(Exception):
    """What should not have come of a case."""


def outcome(case: Case) -> str:
    """Run a case and name its outcome, or raise a `FailureError`."""
    floats = [name for name, x in case.inputs.items() if x.is_floating_point() and "image" not in name]
    names = floats if case.mode == "grad" else []
    try:
        value, slopes = called(case, names)
    except InputError as refused:
        if not case.refusable:
            raise FailureError(f"refused although nothing was wrong: {refused}") from None
        return "refused"
    except Exception as error:
        raise FailureError(f"{type(error).__name__}: {str(error)[:300]}") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted, of_wide = evaluated(case.wanted, plain.wide(case.inputs), names)
    unclear = unknown(case, value, wanted)
    if unclear:
        return unclear
    nudged = _Nudged(case, names)
    agree("value", value, wanted, RTOL.get(value.dtype, 0), nudged, None)
    for name in compared(case, wanted, of_wide):
        if (slope := slopes.get(name)) is not None:
            rtol = 10 * RTOL[torch.float64 if slope.dtype == torch.float64 else torch.float32]
            agree(f"gradient of {name}", slope, of_wide[name], rtol, nudged, name, _slack(case, name, of_wide[name]))
    _check_statistics(case, value)
    return "infinite" if value.isinf().any() else "NaN" if value.isnan().any() else "right"


def called(case: Case, names: list[str]) -> tuple[Tensor, Inputs]:
    """Call the criterion in the case's mode."""
    contexts = {"grad": nullcontext, "no_grad": torch.no_grad, "inference_mode": torch.inference_mode}
    with contexts[case.mode]():
        return evaluated(case.call, case.inputs, names, case.autocast)


def unknown(case: Case, value: Tensor, wanted: Tensor) -> str | None:
    """Return why nothing is known of the value of a case; None where it is known."""
    if value.isnan().any() and cancels(case, value.dtype):
        return "infinities that cancel"
    if is_special(case) and value.isnan().any() and any(loss.relational for loss, _ in case.terms):
        return "NaN"  # a sample that is not finite is everyone's partner
    if any(undecided(loss, inputs) for loss, inputs in case.terms if inputs):
        return _undecided(value, wanted)
    return None


def _undecided(value: Tensor, wanted: Tensor) -> str:
    """Require that a value is there where float64's is; which of them is right, rounding decides."""
    if (value.isnan() & ~wanted.isnan()).any():
        raise FailureError(f"value: NaN, wanted {wanted.tolist()} or near it")
    return "undecided"


def evaluated(
    function: Callable[[Inputs], Tensor], inputs: Inputs, names: list[str], autocast: bool = False
) -> tuple[Tensor, Inputs]:
    """Return a value, and the gradients of its sum by the inputs that are named."""
    inputs = {name: x.detach().clone().requires_grad_(name in names) for name, x in inputs.items()}
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        value = function(inputs)
    if not (names and value.requires_grad):
        return value.detach(), {}
    found = torch.autograd.grad(value.sum(), [inputs[name] for name in names], allow_unused=True)
    return value.detach(), {name: x for name, x in zip(names, found, strict=True) if x is not None}


def is_special(case: Case) -> bool:
    """Return whether NaN or infinity is among the inputs."""
    return "NaN or infinity" in case.refusable


def compared(case: Case, wanted: Tensor, of_wide: Inputs) -> list[str]:
    """Name the inputs whose gradients are known: of NaN and infinity, where value and gradient are finite."""
    if not is_special(case):
        return list(of_wide)
    if not wanted.isfinite().all() or any(loss.relational for loss, _ in case.terms):
        return []
    return [name for name, slope in of_wide.items() if slope.isfinite().all() and "target" not in name]


def cancels(case: Case, dtype: torch.dtype) -> bool:
    """Return whether what is added up overflows in both directions."""
    parts = torch.cat([torch.empty(0), *(part.reshape(-1) for part in case.added(plain.wide(case.inputs)))])
    largest = torch.finfo(dtype).max / 8
    return bool((parts > largest).any() and (parts < -largest).any())


def _slack(case: Case, name: str, wanted: Tensor) -> Tensor | float:
    """Return what rounding does to a gradient, beside the relative error that is granted to all.

    A gradient by vectors of which only directions count is of 1 / length. The components of a mixture share a pixel by
    the difference of their log-likelihoods, which are as large as the parameters.
    """
    x = case.inputs[name].double()
    if "Mixture" in case.name and x.numel():
        return 2e-6 * x.abs().amax().item() * wanted.abs().nan_to_num(0, 0, 0).amax().item()
    if not case.of_directions:
        return 0.0
    return _OF_DIRECTIONS / x.norm(dim=-1, keepdim=True).clamp_min(1e-300) if x.ndim > 1 else 0.0


class _Nudged:
    """References of inputs that differ by rounding: between them lies what a tie, or a kink, may give."""

    def __init__(self, case: Case, names: list[str]) -> None:
        self.case, self.names = case, names
        self.found: list[tuple[Tensor, Inputs]] = []

    def within(self, found: Tensor, name: str | None, atol: float) -> Tensor:
        """Return where a value, or the gradient by an input, lies between the references."""
        if not self.found:
            g = torch.Generator().manual_seed(0)
            for _ in range(NUDGES):
                moved = {name: self._moved(x, g) for name, x in plain.wide(self.case.inputs).items()}
                self.found.append(evaluated(self.case.wanted, moved, self.names))
        every = torch.stack([value if name is None else slopes[name] for value, slopes in self.found])
        low, high = every.amin(0), every.amax(0)
        margin = high - low + atol
        return (found >= low - margin) & (found <= high + margin)

    def _moved(self, x: Tensor, g: torch.Generator) -> Tensor:
        if not x.is_floating_point():
            return x
        noise = torch.randn(x.shape, generator=g, dtype=torch.float64)
        return x * (1 + 1e-6 * noise) + 1e-12 * noise * x.abs().nan_to_num(0, 0, 0).sum().clamp_max(1)


def agree(
    what: str,
    found: Tensor,
    wanted: Tensor,
    rtol: float,
    nudged: _Nudged,
    name: str | None,
    slack: Tensor | float = 0.0,
) -> None:
    """Require numbers that round to the same, up to a tolerance, or that lie between the nudged references."""
    if found.shape != wanted.shape and not (wanted.ndim == found.numel() == 0 == wanted):
        raise FailureError(f"{what}: shape {list(found.shape)}, wanted {list(wanted.shape)}")
    if not found.numel():
        return
    fits, atol = _fitting(found, wanted, rtol, nudged.case.growth(), torch.as_tensor(slack))
    if not fits.all():
        fits |= found.isfinite() & nudged.within(found.double(), name, atol)
    if not fits.all():
        worst = (~fits).reshape(-1).nonzero()[0].item()
        got, right = found.reshape(-1)[worst].item(), wanted.reshape(-1)[worst].item()
        raise FailureError(f"{what}: {got!r} in place {worst}, wanted {right!r}")


def _fitting(found: Tensor, wanted: Tensor, rtol: float, growth: float, grant: Tensor) -> tuple[Tensor, float]:
    """Return where numbers fit those that are wanted, and the absolute tolerance."""
    info, x = torch.finfo(found.dtype), found.double()
    rtol = max(rtol, 2 * info.eps)
    too_large = wanted.abs() > info.max / growth  # numbers so large may overflow on the way
    largest = torch.where(wanted.isfinite() & ~too_large, wanted.abs(), 0).amax().item()
    atol = max(32 * info.smallest_normal, 0.1 * rtol * largest, 1e-2 * rtol)
    fits = (~found.isfinite() & wanted.isnan()) | (too_large & (found == wanted.sign() * torch.inf))
    fits |= wanted.isfinite() & ((x - wanted).abs() <= atol + rtol * wanted.abs() + grant)
    fits |= grant > info.max / 16  # rounding alone may overflow
    # the parts of a gradient by directions, each of 1 / length, overflow to both sides
    fits |= found.isnan() & (grant / _OF_DIRECTIONS > info.max / growth)
    return fits, atol


def _check_statistics(case: Case, value: Tensor) -> None:
    """Require that what was remembered says what was returned: its mean, or that it is not finite."""
    criterion = case.criterion
    if criterion is None or criterion.reduction != "mean":
        return
    try:
        mean = criterion.avg.get("loss", 0.0)
    except NonFiniteError:
        if value.isfinite():
            raise FailureError("statistics are not finite, although the value is") from None
        return
    if not value.isfinite():
        raise FailureError(f"statistics hide a value of {value.item()}: {mean}")
    parts = [part.abs().max().item() for part in case.added(plain.wide(case.inputs)) if part.numel()]
    largest = max(parts, default=0.0)
    if abs(mean - value.item()) > 1e-5 * max(abs(value.item()), largest) + 1e-30:
        raise FailureError(f"statistics: mean {mean}, value {value.item()}")
