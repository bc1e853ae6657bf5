"""Finds spikes: points of a curve far above its recent points."""

from collections import deque
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from lossframe.statistics.snapshot import Named

_HISTORY = 100
_LEAST = 20
_NORMAL = 1.4826  # the standard deviation of a normal distribution over its median absolute deviation


class Spikes:
    """Compares mean and max of each term with their last 100 points, once there are 20.

    A spike is a point more than `deviations` robust standard deviations (1.4826 times the median absolute deviation)
    above the median of these points. With None, no spikes are looked for.
    """

    def __init__(self, deviations: float | None) -> None:
        self.deviations = deviations
        self._past: dict[str, deque[float]] = {}

    def found(self, seen: Named) -> Iterator[str]:
        """Yield a message for each spike in the statistics of a window, and add its points to the history."""
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
        """Return the recent points of each curve."""
        return {name: list(past) for name, past in self._past.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the recent points of each curve."""
        self._past = {name: deque(past, maxlen=_HISTORY) for name, past in state.items()}


def _deviations(value: float, past: deque[float]) -> float:
    """Return how many robust standard deviations a value is above the median; 0 if the points do not vary."""
    center = median(past)
    spread = _NORMAL * median(abs(other - center) for other in past)
    return (value - center) / spread if spread else 0.0
