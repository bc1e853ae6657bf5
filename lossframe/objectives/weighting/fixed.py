"""Weighs terms with numbers from the configuration."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lossframe.objectives.weighting.base import Weighting
from lossframe.objectives.weighting.weights import Weights


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
        return {"configured": dict(self.configured), "current": dict(self.current)}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore the current weights of a `state_dict`, except those whose configuration has changed."""
        for term, weight in state.get("current", {}).items():
            if self.configured.get(term) == state["configured"][term]:
                self.current[term] = weight

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Accept a checkpoint without weights."""
        state_dict.setdefault(f"{prefix}_extra_state", {})
        super()._load_from_state_dict(state_dict, prefix, *args)
