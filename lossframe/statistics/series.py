"""The statistics that are shown of recorded values, in one table."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from lossframe.statistics.moments import Moments


class Statistic(NamedTuple):
    """One curve of a name: its suffix, how it is read off `Moments`, and the option of a loss that asks for it.

    The mean has no suffix and no option: it is always shown. A statistic `from_histogram` wants the values counted.
    """

    suffix: str
    read: Callable[[Moments], float]
    option: str | None
    from_histogram: bool = False

    def tag(self, name: str) -> str:
        """Return the tag of this statistic's curve."""
        return f"{name}_{self.suffix}" if self.suffix else name


def quantile(q: float) -> Callable[[Moments], float]:
    """Return what reads the quantile `q` off `Moments`."""
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
"""All statistics, the mean first. A row here, and its option in conf/options, is all that a new statistic needs."""

BANDS: tuple[tuple[str, str, str, str], ...] = (
    ("median, 5% to 95%", "p50", "p5", "p95"),
    ("mean, min to max", "", "min", "max"),
)
"""Charts of a middle line within a band: a title, and the suffixes of the line and of the band's two edges."""


def options() -> list[str]:
    """Return the options of a loss that ask for statistics."""
    return list(dict.fromkeys(each.option for each in SERIES if each.option is not None))


def suffixes() -> list[str]:
    """Return the suffixes of all statistics but the mean."""
    return [each.suffix for each in SERIES if each.suffix]
