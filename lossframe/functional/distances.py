"""Distances between rows, pairwise or row by row, with finite gradients everywhere."""

from collections.abc import Callable
from typing import Literal, get_args

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
    squares = x.square().sum(-1)[:, None] + y.square().sum(-1)[None, :]
    return torch.addmm(squares, x, y.T, alpha=-2).clamp_min(0)


def _euclidean(x: Tensor, y: Tensor) -> Tensor:
    # without a matrix product: its rounding, 1e-4 in float32, would be the distance of a row to itself
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _cosine(x: Tensor, y: Tensor) -> Tensor:
    return 1 - normalize(x) @ normalize(y).T


PAIRWISE: dict[Distance, Callable[[Tensor, Tensor], Tensor]] = {
    "squared_euclidean": _squared_euclidean,
    "euclidean": _euclidean,
    "cosine": _cosine,
}
"""Distances of every row `[N, D]` to every row `[M, D]`, as `[N, M]`."""


def centered(x: Tensor) -> Tensor:
    """Move the rows' mean to the origin: differences stay, and squared distances lose less to rounding."""
    return x - x.detach().mean(0, keepdim=True) if len(x) else x
