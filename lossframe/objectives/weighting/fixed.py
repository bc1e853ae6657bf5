"""Weighs terms with numbers from the configuration."""

import math
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from torch import Tensor

from lossframe.errors import InputError, names, nearest
from lossframe.objectives.weighting.base import Weighting


class Weights(MutableMapping[str, float]):
    """Maps the names of terms to weights; an unknown term or a weight that is not finite is an `InputError`."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights: dict[str, float] = dict.fromkeys(weights, 1.0)
        self.update(weights)

    def __getitem__(self, term: str) -> float:
        return self._weights[term]

    def __setitem__(self, term: str, weight: float) -> None:
        if term not in self._weights:
            raise InputError(f"weights.{term}: the terms are {names(self)}.{nearest(term, self)}")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise InputError(f"weights.{term}={weight}: wanted a finite number")
        self._weights[term] = float(weight)

    def __delitem__(self, term: str) -> None:
        raise InputError(f"weights.{term} cannot be removed; a weight of 0 leaves a term out")

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)

    def __repr__(self) -> str:
        return repr(self._weights)


class Fixed(Weighting):
    r"""Multiplies each term by a number, $\sum_k w_k L_k$; `objective.weights[TERM]` changes it between steps.

    The current numbers are part of a checkpoint. If the configured weight of a term differs from the one in the
    checkpoint, the configured weight is used.
    """

    def __init__(self, configured: Mapping[str, float]) -> None:
        super().__init__(configured)
        self.current = Weights(configured)

    def weights(self, terms: Mapping[str, Tensor]) -> Mapping[str, Tensor | float]:
        """Return the current weight of each term."""
        return self.current

    def get_extra_state(self) -> dict[str, Any]:
        """Return the configured and the current weights for the `state_dict`."""
        return {"configured": self.configured, "current": dict(self.current)}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore the current weights of a `state_dict`, except those whose configuration has changed."""
        for term, weight in state.get("current", {}).items():
            if self.configured.get(term) == state["configured"][term]:
                self.current[term] = weight

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Accept a checkpoint without weights."""
        state_dict.setdefault(f"{prefix}_extra_state", {})
        super()._load_from_state_dict(state_dict, prefix, *args)
