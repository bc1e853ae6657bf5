"""Computes the distances of all pairs of rows, with finite gradients everywhere.

A matrix product gives squared distances as $|x|^2 + |y|^2 - 2 x y$, which cancels for near pairs. On a CPU near pairs
are found, and their rows subtracted: the relative error of a squared distance is a few times $2^{-20}$ for float32
rows, and $2^{-43}$ for float64 rows. Float32 rows whose squares would leave float32's range become float64 rows, and so
do their distances. Where no value may be read (on a GPU, in `torch.compile` and `torch.func`) and in forward mode, all
rows become float64 rows and no pair is subtracted: the relative error is a few times $2^{-53} |x|^2 / d^2$. The error
of a cosine is absolute.
"""

from functools import partial
from typing import Any, Protocol, cast, get_args

import numpy as np
import torch
from torch import Tensor

from lossframe.errors import InputError, names, nearest
from lossframe.losses.algorithms.rows import LARGE, Distance, directions, length, root, widened_if_few
from lossframe.losses.base.tracing import is_readable, is_traced

DISTANCES: tuple[str, ...] = get_args(Distance)


def check_distance(distance: str) -> Distance:
    """Return the distance's name, or raise an `InputError` if it is unknown."""
    for known in get_args(Distance):
        if distance == known:
            return known  # type: ignore[no-any-return]
    raise InputError(
        f"distance {distance!r} is unknown; it is one of {names(DISTANCES)}.{nearest(distance, DISTANCES)}"
    )


class Pairwise(Protocol):
    """Returns the distances `[B, N]` of prepared anchors, given with their rows, to all samples."""

    def __call__(self, x: Tensor, y: Tensor, rows: slice = ..., /) -> Tensor:
        """Return the distances of rows `x` to rows `y`."""


_EVERY = slice(None)


def prepared(x: Tensor, distance: Distance) -> tuple[Tensor, Pairwise]:
    """Return rows `[N, D]` prepared once for all pairs, and the function that returns their distances."""
    x = widened_if_few(x)
    if distance == "cosine":
        x = directions(x)
        if x.dtype == torch.float32 or not is_readable(x) or not bool(x.detach().any(1).all()):
            return x, _cosine
        x = x / 2**0.5  # 1 - u v is |u - v|^2 / 2, which does not cancel, but for rows of length 0
    rooted = distance == "euclidean"
    if is_traced(x) or not is_readable(x):
        wide = x.double()
        return _with_squares(wide - _shift(wide)[0]), partial(_distances, rooted=rooted)
    shift, spread = _shift(x)
    if x.dtype == torch.float32 and not (spread == 0 or 1 / LARGE <= spread <= LARGE):
        x = x.double()
        shift, _ = _shift(x)
    return _with_squares(x - shift), _Subtracting(x.detach(), _lost(x.detach(), shift), rooted, _NEAR[x.dtype])


def _with_squares(x: Tensor) -> Tensor:
    squares = x.square().sum(1, keepdim=True)
    return torch.cat([x, squares, torch.ones_like(squares)], 1)


def _squares(x: Tensor, y: Tensor) -> Tensor:
    # |x|^2 + |y|^2 - 2 x y in one matrix product: rows are [x, |x|^2, 1]
    return torch.cat([-2 * x[:, :-2], x[:, -1:], x[:, -2:-1]], 1) @ y.T


def _distances(x: Tensor, y: Tensor, rows: slice = _EVERY, *, rooted: bool) -> Tensor:
    squares = _squares(x, y)
    if not rooted:
        return squares
    return root(squares) if is_traced(squares) else cast(Tensor, _Replaced.apply(squares, None, None, True, True))


_NEAR = {torch.float32: 2.0**-4, torch.float64: 2.0**-10}
"""Share of |x|^2 below which a squared distance has lost too many digits, by the dtype of the rows."""
_NEAR_IN_FLOAT64 = 2.0**-29
"""The same share for squares in float64 that must be as exact as a float32."""
FEW_NEAR_PAIRS = 32
"""Near pairs per row up to which their differences cost less than float64 for all pairs."""


class _Subtracting:
    """Computes distances by a matrix product, and replaces those of near pairs by norms of the rows' differences."""

    def __init__(self, original: Tensor, lost: Tensor | None, rooted: bool, near: float) -> None:
        self._original, self._lost, self._rooted, self._near = original, lost, rooted, near

    def __call__(self, anchors: Tensor, everyone: Tensor, rows: slice = _EVERY) -> Tensor:
        """Return the distances of anchors, given with their rows, to all samples, in the anchors' dtype."""
        if is_traced(anchors):  # backward under vmap
            x, y = self._wide(anchors, everyone, rows)
            return _distances(_with_squares(x), _with_squares(y), rooted=self._rooted).to(anchors.dtype)
        squares = _squares(anchors, everyone)
        tiny = torch.finfo(squares.dtype).tiny / torch.finfo(squares.dtype).eps ** 2  # squares below have few digits
        limits = self._near * anchors[:, -2:-1].detach() + tiny
        near = np.flatnonzero(squares.detach().numpy() <= limits.numpy())
        if np.array_equal(near, self._of_themselves(anchors, everyone, rows)):
            exact, through = squares.new_zeros(len(near)), not self._rooted  # the gradient is 0 either way
        elif len(near) <= FEW_NEAR_PAIRS * len(anchors):
            pairs = map(torch.from_numpy, np.divmod(near, len(everyone)))
            exact, through = self._of_pairs(anchors, everyone, rows, *pairs), False
        elif anchors.dtype == torch.float32:
            return self._in_float64(anchors, everyone, rows).float()
        else:  # no room for the differences: the gradient is that of the product, whose error is 2^-53 |x| / d
            exact, through = self._of_all(rows).reshape(-1)[near], True
        return cast(Tensor, _Replaced.apply(squares, torch.from_numpy(near), exact, self._rooted, through))

    def _of_themselves(self, anchors: Tensor, everyone: Tensor, rows: slice) -> Any:
        return np.arange(len(anchors)) * (len(everyone) + 1) + (rows.start or 0)

    def _of_all(self, rows: slice) -> Tensor:
        original = self._original.double()
        found = torch.cdist(original[rows], original, compute_mode="donot_use_mm_for_euclid_dist")
        return found if self._rooted else found.square_()

    def _of_pairs(self, anchors: Tensor, everyone: Tensor, rows: slice, row: Tensor, column: Tensor) -> Tensor:
        difference = anchors[:, :-2].index_select(0, row) - everyone[:, :-2].index_select(0, column)
        if self._lost is not None:
            difference = difference + (self._lost[rows].index_select(0, row) - self._lost.index_select(0, column))
        return length(difference) if self._rooted else difference.square().sum(1)

    def _in_float64(self, anchors: Tensor, everyone: Tensor, rows: slice) -> Tensor:
        subtracting = _Subtracting(self._original, None, self._rooted, _NEAR_IN_FLOAT64)
        x, y = self._wide(anchors, everyone, rows)
        return subtracting(_with_squares(x), _with_squares(y), rows)

    def _wide(self, anchors: Tensor, everyone: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        x, y, lost = anchors[:, :-2].double(), everyone[:, :-2].double(), self._lost
        return (x, y) if lost is None else (x + lost[rows], y + lost)


class _Replaced(torch.autograd.Function):
    """Turns squared distances into distances in place, rooted or not, and replaces some of them by exact ones.

    The gradient at a replaced place goes to the exact distance, or `through` to the square.
    """

    @staticmethod
    def forward(
        ctx: Any, squares: Tensor, places: Tensor | None, exact: Tensor | None, rooted: bool, through: bool
    ) -> Tensor:
        result = squares.clamp_min_(0).sqrt_() if rooted else squares
        if places is not None and exact is not None:
            result.view(-1)[places] = exact.to(result.dtype)
        ctx.mark_dirty(squares)
        ctx.save_for_backward(result if rooted else None, None if through else places)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor | None, None, None]:
        result, places = ctx.saved_tensors
        if result is not None:
            divisor = result.masked_fill(result == 0, torch.inf) if places is None else result
            of_squares = (grad / divisor).div_(2)
        else:
            of_squares = grad if places is None else grad.clone(memory_format=torch.contiguous_format)
        if places is None:
            return of_squares, None, None, None, None
        of_squares.view(-1)[places] = 0
        return of_squares, None, grad.reshape(-1)[places], None, None


def _cosine(x: Tensor, y: Tensor, rows: slice = _EVERY) -> Tensor:
    return 1 - x @ y.T


def _lost(x: Tensor, shift: Tensor) -> Tensor | None:
    """Return what `x - shift` loses to rounding, which is `x - shift - (x - shift)` as a float; None if nothing."""
    if not bool(shift.any()):
        return None
    moved = x - shift
    back = moved - x
    lost = (x - (moved - back)) - (shift + back)
    return lost if bool(lost.any()) else None


def centered(x: Tensor) -> Tensor:
    """Move the rows' mean near the origin, so that squared distances lose less to rounding."""
    return x - _shift(x)[0]


def _shift(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return what to subtract from rows so that their mean is near the origin, and their largest distance from it.

    The shift is a multiple of a power of two as large as the spread, so that differences stay exact, and with them
    ties.
    """
    if not x.numel():
        return torch.zeros_like(x[:1].sum(0)), x.detach().sum()
    rows = x.detach()
    mean = rows.mean(0, dtype=torch.float64).to(x.dtype)
    spread = (rows - mean).abs_().amax()
    step = spread.log2().floor().exp2()
    return torch.where(step > 0, (mean / step).round() * step, rows[0]), spread
