"""Lists all statistics of recorded values in one table, from which curves, options and reports are derived."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from lossframe.statistics.moments import Moments


class Statistic(NamedTuple):
    """Describes one statistic: the suffix of its curve, the function that reads it off `Moments`, and its option.

    A loss shows the statistic if the option is true. The mean has neither suffix nor option, and is always shown.
    `from_histogram` says that the statistic needs the values counted into a histogram.
    """

    suffix: str
    read: Callable[[Moments], float]
    option: str | None
    from_histogram: bool = False

    def tag(self, name: str) -> str:
        """Return the tag of this statistic's curve."""
        return f"{name}_{self.suffix}" if self.suffix else name


def quantile(q: float) -> Callable[[Moments], float]:
    """Return a function that reads the quantile `q` off `Moments`."""
    return partial(Moments.quantile, q=q)


SERIES: tuple[Statistic, ...] = (
    Statistic("", lambda moments: moments.mean, None),
    Statistic("std", lambda moments: moments.std, "log_std"),
    Statistic("min", lambda moments: moments.min, "log_min"),
    Statistic("max", lambda moments: moments.max, "log_max"),
    Statistic("p5", quantile(0.05), "log_quantiles", from_histogram=True),
    Statistic("p50", quantile(0.5), "log_quantiles", from_histogram=True),
    Statistic("p95", quantile(0.95), "log_quantiles", from_histogram=True),
    Statistic("p99", quantile(0.99), "log_quantiles", from_histogram=True),
)
"""All statistics, the mean first. A new statistic needs a row here, and its option in conf/options/default.yaml."""

BANDS: tuple[tuple[str, str, str, str], ...] = (
    ("median, 5% to 95%", "p50", "p5", "p95"),
    ("mean, min to max", "", "min", "max"),
)
"""Charts of a line within a band: title, suffix of the line, and suffixes of the lower and upper edge of the band."""


def options() -> list[str]:
    """Return the options of a loss that select statistics."""
    return list(dict.fromkeys(each.option for each in SERIES if each.option is not None))


def suffixes() -> list[str]:
    """Return the suffixes of all statistics but the mean."""
    return [each.suffix for each in SERIES if each.suffix]
