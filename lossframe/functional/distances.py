"""Distances between rows, pairwise or row by row, with finite gradients everywhere."""

from collections.abc import Callable
from typing import Any, Literal, get_args

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


def _squared_euclidean(x: Tensor, y: Tensor) -> Tensor:
    # |x|^2 + |y|^2 - 2 x y in one matrix product: rows are [x, |x|^2, 1]
    return torch.cat([-2 * x[:, :-2], x[:, -1:], x[:, -2:-1]], 1) @ y.T


def _euclidean(x: Tensor, y: Tensor) -> Tensor:
    if x.dtype == torch.float64:
        return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
    if torch.compiler.is_compiling():
        return _root_of_double(x, y)
    distances: Tensor = _Euclidean.apply(x, y)
    return distances


def _root_of_double(x: Tensor, y: Tensor) -> Tensor:
    # the square root magnifies rounding: in float32 a row would have a distance of 1e-4 to itself
    return root(_squared_euclidean(_with_squares(x.double()), _with_squares(y.double())).to(x.dtype))


class _Euclidean(torch.autograd.Function):
    """`_root_of_double` in fewer steps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        distances = _squared_euclidean(_with_squares(x.double()), _with_squares(y.double())).to(x.dtype)
        distances.clamp_min_(0).sqrt_()
        ctx.save_for_backward(x, y, distances)
        return distances

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, y, distances = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants the gradient of this gradient
            x, y = x.view_as(x), y.view_as(y)  # they may be one tensor
            of_x, of_y = torch.autograd.grad(_root_of_double(x, y), (x, y), grad, create_graph=True)
            return of_x, of_y
        slopes = (grad / distances).masked_fill_(distances == 0, 0).double()
        of_x = slopes.sum(1, keepdim=True) * x - slopes @ y.double()
        of_y = slopes.sum(0).unsqueeze(1) * y - slopes.T @ x.double()
        return of_x.to(x.dtype), of_y.to(y.dtype)


def _cosine(x: Tensor, y: Tensor) -> Tensor:
    return 1 - x @ y.T


PAIRWISE: dict[Distance, Callable[[Tensor, Tensor], Tensor]] = {
    "squared_euclidean": _squared_euclidean,
    "euclidean": _euclidean,
    "cosine": _cosine,
}
"""Distances of every prepared row to every prepared row, `[N, M]`; near 0 they may be negative by rounding."""


def prepared(x: Tensor, distance: Distance) -> Tensor:
    """Return the rows `[N, D]` as `PAIRWISE` wants them, what can be done once for all pairs being done."""
    if distance == "cosine":
        return normalize(x)
    return _with_squares(centered(x)) if distance == "squared_euclidean" else centered(x)


def centered(x: Tensor) -> Tensor:
    """Move the rows' mean near the origin, so that squared distances lose less to rounding.

    The shift is a multiple of a power of two as large as the spread, so that differences stay exact, and with them
    ties.
    """
    if not x.numel():
        return x
    rows = x.detach()
    mean = rows.mean(0)
    step = (rows - mean).abs().amax().log2().floor().exp2()
    return x - torch.where(step > 0, (mean / step).round() * step, rows[0])


def _with_squares(x: Tensor) -> Tensor:
    return torch.cat([x, x.square().sum(1, keepdim=True), torch.ones_like(x[:, :1])], 1)
