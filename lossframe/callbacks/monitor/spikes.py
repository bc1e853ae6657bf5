"""Points of a curve that stand out from its own recent past."""

from collections import deque
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from lossframe.statistics.snapshot import Named

_HISTORY = 100
_LEAST = 20
_NORMAL = 1.4826  # the standard deviation of a normal distribution over its median absolute deviation


class Spikes:
    """Compares the mean and the max of each term with their last 100 points, of which there must be 20.

    A point is a spike if it is more than `deviations` robust standard deviations (1.4826 times the median absolute
    deviation) above the median of these; None looks for nothing.
    """

    def __init__(self, deviations: float | None) -> None:
        self.deviations = deviations
        self._past: dict[str, deque[float]] = {}

    def found(self, seen: Named) -> Iterator[str]:
        """Yield what is to be said about each spike of a window."""
        if self.deviations is None:
            return
        for term, named in seen.items():
            if (moments := named.get("loss")) is None or moments.nonfinite:
                continue
            for what, value in (("mean", moments.mean), ("max", moments.max)):
                past = self._past.setdefault(f"{what} of {term}", deque(maxlen=_HISTORY))
                if len(past) >= _LEAST and (beyond := _deviations(value, past)) > self.deviations:
                    yield (
                        f"the {what} of {term!r}, {value:.4g}, is {beyond:.0f} robust deviations above the median "
                        f"{median(past):.4g} of its last {len(past)} points"
                    )
                past.append(value)

    def state_dict(self) -> dict[str, Any]:
        """Return the recent past."""
        return {name: list(past) for name, past in self._past.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a recent past."""
        self._past = {name: deque(past, maxlen=_HISTORY) for name, past in state.items()}


def _deviations(value: float, past: deque[float]) -> float:
    center = median(past)
    spread = _NORMAL * median(abs(other - center) for other in past)
    return (value - center) / spread if spread else 0.0
