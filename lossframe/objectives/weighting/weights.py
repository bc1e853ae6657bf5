"""Maps the terms of an objective to weights, and refuses what is no weight."""

import math
from collections.abc import Iterator, Mapping, MutableMapping
from numbers import Real
from typing import Any

from torch import Tensor

from lossframe.errors import InputError, names, nearest


class Weights(MutableMapping[str, float]):
    """Maps the names of terms to weights; an unknown term or a weight that is no finite number is an `InputError`.

    >>> weights = Weights({"mse": 1})
    >>> weights["mse"] = 0.5
    >>> weights
    {'mse': 0.5}
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights: dict[str, float] = dict.fromkeys(weights, 1.0)
        self.update(weights)

    def __getitem__(self, term: str) -> float:
        return self._weights[term]

    def __setitem__(self, term: str, weight: float) -> None:
        if term not in self._weights:
            raise InputError(f"weights.{term}: the terms are {names(self)}.{nearest(term, self)}")
        self._weights[term] = _number(f"weights.{term}", weight)

    def __delitem__(self, term: str) -> None:
        raise InputError(f"weights.{term} cannot be removed; a weight of 0 leaves a term out")

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)

    def __repr__(self) -> str:
        return repr(self._weights)


def _number(key: str, weight: Any) -> float:
    """Return a weight as a float: a number of Python or NumPy, or a tensor of one number without gradient."""
    if isinstance(weight, Tensor) and weight.requires_grad:
        raise InputError(f"{key}: wanted a number, found a tensor with gradient; a learned weight needs a Weighting")
    plain = weight.item() if getattr(weight, "ndim", None) == 0 else weight  # of a tensor or a NumPy array
    if plain is None:
        raise InputError(f"{key}=null: wanted a finite number, found null; {key}=0 leaves the term out")
    if isinstance(plain, bool) or not isinstance(plain, Real):
        raise InputError(f"{key}={weight}: wanted a finite number, found {type(weight).__name__} {weight!r}")
    if not math.isfinite(plain):
        raise InputError(f"{key}={weight}: wanted a finite number; {key}=0 leaves the term out")
    return float(plain)
