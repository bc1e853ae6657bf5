"""Distances between rows, pairwise or row by row, with finite gradients everywhere."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor

from lossframe.errors import InputError, names, nearest

Distance = Literal["squared_euclidean", "euclidean", "cosine"]
DISTANCES: tuple[str, ...] = get_args(Distance)


def check_distance(distance: str) -> Distance:
    """Return the distance's name, or raise an `InputError` if it is unknown."""
    for known in get_args(Distance):
        if distance == known:
            return known  # type: ignore[no-any-return]
    raise InputError(
        f"distance {distance!r} is unknown; it is one of {names(DISTANCES)}.{nearest(distance, DISTANCES)}"
    )


def normalize(x: Tensor) -> Tensor:
    """Scale rows to length 1; a zero row stays zero, with a finite gradient."""
    squares = x.square().sum(-1, keepdim=True)
    return x / torch.where(squares > 0, squares, 1).sqrt()


def root(x: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0."""
    return torch.where(x > 0, x, 1).sqrt() * (x > 0)


def rowwise(x: Tensor, y: Tensor, distance: Distance) -> Tensor:
    """Return the distance of each row `[N, D]` of `x` to that row of `y`, `[N]`."""
    if distance == "cosine":
        return 1 - (normalize(x) * normalize(y)).sum(-1)
    squares = (x - y).square().sum(-1)
    return squares if distance == "squared_euclidean" else root(squares)


Pairwise = Callable[[Tensor, Tensor], Tensor]
"""Distances `[N, M]` of every prepared row to every prepared row; near 0 they may be negative by rounding."""


def prepared(x: Tensor, distance: Distance) -> tuple[Tensor, Pairwise]:
    """Return rows `[N, D]` with what can be done once for all pairs done, and what gives their distances."""
    if distance == "cosine":
        return normalize(x), _cosine
    if distance == "squared_euclidean":
        return _with_squares(centered(x)), _squared_euclidean
    if x.dtype == torch.float64:
        return centered(x), partial(torch.cdist, compute_mode="donot_use_mm_for_euclid_dist")
    counted = x.device.type == "cpu" and not torch.compiler.is_compiling()  # near pairs are, without waiting for it
    return _with_squares(centered(x).to(torch.float32 if counted else torch.float64)), _euclidean


def _with_squares(x: Tensor) -> Tensor:
    return torch.cat([x, x.square().sum(1, keepdim=True), torch.ones_like(x[:, :1])], 1)


def _squared_euclidean(x: Tensor, y: Tensor) -> Tensor:
    # |x|^2 + |y|^2 - 2 x y in one matrix product: rows are [x, |x|^2, 1]
    return torch.cat([-2 * x[:, :-2], x[:, -1:], x[:, -2:-1]], 1) @ y.T


_NEAR = 2.0**-6
"""Squares up to this share of |x|^2 lost too many digits for a root, or a root's gradient, to be made of them."""
_FEW = 32
"""How many near pairs a row may have, for their differences to cost less than float64 for all."""


def _euclidean(x: Tensor, y: Tensor) -> Tensor:
    if x.dtype == torch.float32:
        squares = _squared_euclidean(x, y)
        near = np.flatnonzero(squares.detach().numpy() <= _NEAR * x[:, -2:-1].detach().numpy())
        if len(near) <= _FEW * len(x):
            row, column = map(torch.from_numpy, np.divmod(near, len(y)))
            exact = (x[row] - y[column])[:, :-2].square().sum(1)
            return cast(Tensor, _CorrectedRoot.apply(squares, torch.from_numpy(near), exact))
        x, y = (_with_squares(rows[:, :-2].double()) for rows in (x, y))
    squares = _squared_euclidean(x, y)
    return root(squares.float()) if torch.compiler.is_compiling() else cast(Tensor, _FloatRoot.apply(squares))


class _CorrectedRoot(torch.autograd.Function):
    """Square root after some of the numbers are replaced; its gradient at 0 is 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor, exact: Tensor) -> Tensor:
        x.view(-1)[places] = exact
        ctx.mark_dirty(x)
        ctx.save_for_backward(x.sqrt_(), places)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor]:
        result, places = ctx.saved_tensors
        of_x = (grad / result).div_(2)
        of_exact = torch.where(result.view(-1)[places] > 0, of_x.view(-1)[places], 0)
        of_x.view(-1)[places] = 0
        return of_x, None, of_exact


class _FloatRoot(torch.autograd.Function):
    """`root(x.float())` in fewer steps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        result = x.float().clamp_min_(0).sqrt_()
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (result,) = ctx.saved_tensors
        return grad.double().div_(result.masked_fill(result == 0, torch.inf).mul_(2))


def _cosine(x: Tensor, y: Tensor) -> Tensor:
    return 1 - x @ y.T


def centered(x: Tensor) -> Tensor:
    """Move the rows' mean near the origin, so that squared distances lose less to rounding.

    The shift is a multiple of a power of two as large as the spread, so that differences stay exact, and with them
    ties.
    """
    if not x.numel():
        return x
    rows = x.detach()
    mean = rows.mean(0)
    step = (rows - mean).abs_().amax().log2().floor().exp2()
    return x - torch.where(step > 0, (mean / step).round() * step, rows[0])
