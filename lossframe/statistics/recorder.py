"""Records named values and tells their statistics: the base of losses and objectives."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lossframe.errors import NonFiniteError
from lossframe.statistics import series as table
from lossframe.statistics.accumulator import Accumulator, on_host
from lossframe.statistics.moments import Moments
from lossframe.statistics.series import Statistic


class SummaryWriter(Protocol):
    """Anything with TensorBoard's `add_scalar`."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> Any:
        """Write one point of one curve."""


class Recorder(nn.Module):
    """Records values under names on their device, and tells their mean and the statistics that `options` ask for.

    `options` are the flags of `series.SERIES`, such as `log_std`; each is an attribute, and False by default.
    """

    accumulators: dict[str, Accumulator]

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.accumulators = {}
        for option in table.options():
            setattr(self, option, bool(options.get(option, False)))

    def accumulate(self, name: str, values: Tensor, mask: Tensor | None = None, replicated: bool = False) -> None:
        """Record values under a name; `replicated` values are the same on every rank, and count once."""
        accumulator = self.accumulators.get(name)
        if accumulator is None:
            accumulator = self.accumulators[name] = Accumulator(self.counts_values(name))
        accumulator.replicated = replicated
        accumulator.push(values, mask)

    def log(self, name: str, value: Tensor | float) -> None:
        """Record any value, of any shape, under a name of its own."""
        self.accumulate(name, torch.as_tensor(value).detach().clone())  # a parameter goes on changing

    @property
    def avg(self) -> dict[str, float]:
        """The mean of every name on this rank; a loss's own values are under "loss".

        An average weighs elements, not calls. A non-finite value is a `NonFiniteError`.
        """
        return {name: moments.mean for name, moments in self._finite_moments().items()}

    def reset_avg(self) -> None:
        """Drop all recorded values. A change of `log_quantiles` takes effect."""
        for name, accumulator in self.accumulators.items():
            accumulator.reset()
            accumulator.counts_values = self.counts_values(name)

    def summary(self, samples_seen: int, summary_writer: SummaryWriter) -> None:
        """Write this rank's statistics as curves over samples seen; nothing is reset.

        Tags are `k` for the mean of the name `k`, and `k_std`, `k_min`, `k_max`, `k_p5`, ... where options ask for it.
        """
        for name, moments in self._finite_moments().items():
            for tag, value in self.series(name, moments).items():
                summary_writer.add_scalar(tag, value, samples_seen)

    def series(self, name: str, moments: Moments, tag: str | None = None) -> dict[str, float]:
        """Return the curves of one name: its mean, tagged `tag` or else as the name, and each statistic asked for."""
        return {
            each.tag(tag or name): each.read(moments)
            for each in table.SERIES
            if self.shows(each, name) and not (each.from_histogram and moments.histogram is None)
        }

    def shows(self, statistic: Statistic, name: str = "loss") -> bool:
        """Return whether a statistic of a name is shown."""
        return statistic.option is None or bool(getattr(self, statistic.option, False))

    def counts_values(self, name: str) -> bool:
        """Return whether the values of a name are counted into a histogram: those of a loss that shows quantiles."""
        return name == "loss" and any(each.from_histogram and self.shows(each) for each in table.SERIES)

    def moments(self) -> dict[str, Moments]:
        """Return the moments of every name that has values, on this rank, with one copy from the device."""
        found = zip(self.accumulators, on_host(list(self.accumulators.values())), strict=True)
        return {name: moments for name, moments in found if moments.count}

    def get_extra_state(self) -> dict[str, Any]:
        """Put the statistics into the `state_dict`."""
        return {name: moments.state() for name, moments in self.moments().items()}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take the statistics from a `state_dict`."""
        self.accumulators = {name: Accumulator.of(Moments.from_state(saved)) for name, saved in state.items()}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Accept a checkpoint without statistics, such as that of another library's loss: they are no weights."""
        state_dict.setdefault(f"{prefix}_extra_state", {})
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _finite_moments(self) -> dict[str, Moments]:
        found = self.moments()
        for name, moments in found.items():
            require_finite(type(self).__name__, name, moments)
        return found


def require_finite(term: str, name: str, moments: Moments) -> None:
    """Raise a `NonFiniteError` that names the term if it saw NaN or infinity."""
    if moments.nonfinite:
        what = term if name == "loss" else f"{term}, {name!r}"
        raise NonFiniteError(
            f"{what}: {moments.nonfinite:.0f} of {moments.count:.0f} values were not finite since the last reading; "
            "wanted finite values only. Look at its inputs, the learning rate and the precision"
        )
