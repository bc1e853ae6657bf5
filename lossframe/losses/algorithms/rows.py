"""Computes lengths, directions and distances of rows, one by one, whatever their scale.

On a CPU, results for which float32 lacks digits or range are computed again in float64. Where no value may be read (on
a GPU, in `torch.compile` and `torch.func`), distances are computed in float64, and directions in the rows' dtype.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from lossframe.losses.base.tracing import is_readable

Distance = Literal["squared_euclidean", "euclidean", "cosine"]
Formula = Callable[[Tensor, Tensor], Tensor]
_PARALLEL = 2.0**-6
"""Distance of a cosine to 1 within which float32 loses too many digits of the distance, or of its gradient."""
FEW = 64
"""Number of rows up to which all pairs take about as long in float64 as in float32."""
_CLOSE = 2.0**-9
"""Share of their sum below which the difference of two float32 distances has too few digits."""
_PROBES = 8
"""Number of rows compared with all others; one over it is the share of parallel rows that makes float64 worthwhile."""


def normalize(x: Tensor) -> Tensor:
    """Scale rows to length 1; a zero row stays zero, with a finite gradient."""
    scaled, _ = _scaled(x)
    squares = scaled.square().sum(-1, keepdim=True)
    return scaled / torch.where(squares > 0, squares, 1).sqrt()


def widened_if_few(x: Tensor) -> Tensor:
    """Return rows in float64 if they are so few that float64 costs nothing, else unchanged."""
    return x.double() if len(x) <= FEW else x


def directions(x: Tensor) -> Tensor:
    """Scale rows `[N, D]` to length 1, in float64 if many rows would be equal in float32.

    The error of a cosine is then below $2^{-22}$, and that of its gradient a few times $2^{-21}$ of the largest one.
    Where no value may be read, float32 rows stay float32.
    """
    x = widened_if_few(x)
    unit = normalize(x)
    if x.dtype == torch.float64 or not x.numel() or not is_readable(x):
        return unit
    rows = unit.detach()
    parallel = (rows[:: len(rows) // _PROBES + 1] @ rows.T).abs() > 1 - _PARALLEL
    return normalize(x.double()) if parallel.double().mean().item() > 1 / _PROBES else unit


def root(x: Tensor) -> Tensor:
    """Return the square root, with a gradient of 0 at 0."""
    return torch.where(x > 0, x, 1).sqrt() * (x > 0)


def length(x: Tensor) -> Tensor:
    """Return the Euclidean lengths of rows; the gradient of length 0 is 0."""
    scaled, scale = _scaled(x)
    return (scale * root(scaled.square().sum(-1, keepdim=True))).squeeze(-1)


def rowwise(x: Tensor, y: Tensor, distance: Distance) -> Tensor:
    """Return the distance of each row `[..., D]` of `x` to the same row of `y`, in their dtype or in float64."""
    formula, low, high = _ROWWISE[distance]
    return exactly(formula, x, y, low, high)


def gaps(anchor: Tensor, positive: Tensor, negative: Tensor, distance: Distance) -> Tensor:
    """Return $d(a, p) - d(a, n)$ of rows `[N, D]`, in their dtype or in float64.

    Distances in float32 that are so close that their difference has few digits, as for a far anchor, are computed again
    in float64.
    """
    near, far = rowwise(anchor, positive, distance), rowwise(anchor, negative, distance)
    gap = near - far
    if anchor.dtype != torch.float32 or not is_readable(gap):
        return gap
    close = gap.detach().abs() <= _CLOSE * (near + far).detach()
    if not close.any():
        return gap
    a, p, n = anchor[close].double(), positive[close].double(), negative[close].double()
    return gap.double().index_put((close,), rowwise(a, p, distance) - rowwise(a, n, distance))


def exactly(formula: Formula, x: Tensor, y: Tensor, low: float, high: float) -> Tensor:
    """Return a number for each row, computed in float64 where the float32 result is outside of `low` to `high`.

    Float32 results outside of these bounds lack digits or range. Where no value may be read, all rows become float64.
    """
    if x.dtype != torch.float32 or not is_readable(x):
        return formula(x.double(), y.double())
    found = formula(x, y)
    magnitude = found.detach().abs()
    beyond = ~((magnitude >= low) & (magnitude <= high))
    if not beyond.any():
        return found
    return found.double().index_put((beyond,), formula(x[beyond].double(), y[beyond].double()))


def _angular(x: Tensor, y: Tensor) -> Tensor:
    """Return one minus the cosine of rows, 1 for a zero row; in float64 within [0, 2] and exact near both ends."""
    u, v = normalize(x), normalize(y)
    if u.dtype == torch.float32:
        return 1 - (u * v).sum(-1)
    # 1 - u v is |u - v|^2 / 2, and 2 - |u + v|^2 / 2: the smaller square does not cancel
    side = torch.where((u.detach() * v.detach()).sum(-1) < 0, -1.0, 1.0).to(u.dtype)
    squares = (u - side[..., None] * v).square().sum(-1) / 2
    empty = ((~u.detach().any(-1)).to(u.dtype) + (~v.detach().any(-1)).to(u.dtype)) / 2
    return 1 - side + side * squares + empty


def _squared(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square().sum(-1)


def _root_of_squared(x: Tensor, y: Tensor) -> Tensor:
    return length(x - y) if x.dtype == torch.float64 else root(_squared(x, y))


LARGE = 2.0**40
"""Magnitude above which, or all below whose inverse, float32 numbers have sums of squares outside of the range."""
_ROWWISE: dict[Distance, tuple[Formula, float, float]] = {
    "squared_euclidean": (_squared, 0, LARGE**2),
    "euclidean": (_root_of_squared, 1 / LARGE, LARGE),
    "cosine": (_angular, _PARALLEL, 2 - _PARALLEL),
}
"""Formulae of rows, and the bounds between which float32 has enough digits and range."""


def _scaled(x: Tensor) -> tuple[Tensor, Tensor]:
    """Divide rows by their largest magnitude, so that squares neither overflow nor vanish; also return it."""
    if not x.shape[-1]:
        return x, x.new_ones(*x.shape[:-1], 1)
    largest = x.detach().abs().amax(-1, keepdim=True)
    scale = torch.where((largest > 0) & (largest < torch.inf), largest, 1)
    return x / scale, scale
