"""Fixed weights, as configured."""

import math
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from torch import Tensor

from lossframe.errors import InputError, names, nearest
from lossframe.objectives.weighting.base import Weighting


class Weights(MutableMapping[str, float]):
    """The weights of terms by name; a weight that is not a finite number, or of no term, is an `InputError`."""

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
    r"""Weighs each term by a number, $\sum_k w_k L_k$, which may be changed between steps: `objective.weights[TERM]`.

    The current numbers are part of a checkpoint. Where the configuration is not that of the checkpoint any more, the
    numbers that it changes are those of the configuration.
    """

    def __init__(self, configured: Mapping[str, float]) -> None:
        super().__init__(configured)
        self.current = Weights(configured)

    def weights(self, terms: Mapping[str, Tensor]) -> Mapping[str, Tensor | float]:
        """Return the number of each term."""
        return self.current

    def get_extra_state(self) -> dict[str, Any]:
        """Put the weights into the `state_dict`: as configured, and as they are now."""
        return {"configured": self.configured, "current": dict(self.current)}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take the current weights of a `state_dict`, but for those that are configured otherwise."""
        for term, weight in state.get("current", {}).items():
            if self.configured.get(term) == state["configured"][term]:
                self.current[term] = weight

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Accept a checkpoint without weights."""
        state_dict.setdefault(f"{prefix}_extra_state", {})
        super()._load_from_state_dict(state_dict, prefix, *args)
