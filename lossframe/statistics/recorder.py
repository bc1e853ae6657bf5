"""Base class of losses and objectives: records named values and reports their statistics."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lossframe import distributed
from lossframe.errors import InputError, NonFiniteError
from lossframe.statistics import registry
from lossframe.statistics import series as table
from lossframe.statistics.accumulator import Accumulator, Counts, as_counts, as_recorded, on_host, unwrapped
from lossframe.statistics.moments import Moments
from lossframe.statistics.series import Statistic
from lossframe.statistics.unread import warn_without_monitor


class SummaryWriter(Protocol):
    """Protocol of a writer that has TensorBoard's method `add_scalar`."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> Any:
        """Write one point of one curve."""


class Recorder(nn.Module):
    """Records values under names on their device, and reports their means and the statistics that `options` select.

    `options` holds the flags that `series.SERIES` names, such as `log_std`. Each is an attribute, False by default.
    """

    accumulators: dict[tuple[str, bool], Accumulator]
    """Accumulators by name, those of replicated values apart."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.accumulators = {}
        self.staged: dict[tuple[str, bool], Accumulator] = {}
        self._recording = self.accumulators
        for option in table.options():
            setattr(self, option, bool(options.get(option, False)))
        registry.add(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        registry.add(self)

    def accumulate(self, name: str, values: Tensor, counts: Counts = None, replicated: bool = False) -> None:
        """Record values under a name, which nobody may change later. `replicated` ones, equal on all ranks, count once.

        `counts` says how many equal values each value stands for: a bool mask, or numbers that broadcast to the values.
        Nothing is recorded while autograd runs backward: gradient checkpointing repeats the forward pass there.
        """
        if torch._C._current_graph_task_id() != -1:
            return
        if torch._C._are_functorch_transforms_active():
            values, counts = unwrapped(values), unwrapped(counts) if isinstance(counts, Tensor) else counts
        accumulator = self._recording.get((name, replicated))
        if accumulator is None:
            accumulator = self._recording[name, replicated] = Accumulator(self.counts_values(name))
            warn_without_monitor(self)
        accumulator.push(values, counts)

    def log(self, name: str, value: Tensor | float, count: Tensor | float = 1) -> None:
        """Record a value of any shape under a name. Each value stands for `count` equal ones, as a mean of `count`."""
        self.accumulate(name, as_recorded(value), as_counts(count))

    @property
    def avg(self) -> dict[str, float]:
        """Mean of the values of every name on this rank; the values of a loss have the name "loss".

        Every value counts equally, however many a call has recorded. A non-finite value is a `NonFiniteError`.
        """
        return {name: moments.mean for name, moments in self._finite_moments().items()}

    def reset_avg(self) -> None:
        """Drop all recorded values, and apply a change of `log_quantiles`."""
        self.staged.clear()
        self.empty()

    def empty(self) -> None:
        """Drop the recorded values that are not staged, and apply a change of `log_quantiles`."""
        for (name, _), accumulator in self.accumulators.items():
            accumulator.reset()
            accumulator.counts_values = self.counts_values(name)

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been recorded since the last reading."""
        held = (*self.accumulators.values(), *self.staged.values())
        return not any(accumulator.pending or accumulator.states for accumulator in held)

    def stage(self, on: bool) -> None:
        """Set values that are recorded from now on aside, until they are joined or dropped; or end that.

        A snapshot leaves staged values where they are.
        """
        self._recording = self.staged if on else self.accumulators

    def join(self) -> None:
        """Add the staged values to the others."""
        _absorb(self.accumulators, self.staged)

    def take_over(self, other: "Recorder") -> None:
        """Move the values of another recorder here."""
        _absorb(self.accumulators, other.accumulators)
        _absorb(self.staged, other.staged)

    def summary(self, samples_seen: int, summary_writer: SummaryWriter) -> None:
        """Write the statistics of this rank as curves over samples seen, without resetting them.

        The tag of a mean is its name `k`; selected statistics have the tags `k_std`, `k_min`, `k_max`, `k_p5`, ...
        """
        for name, moments in self._finite_moments().items():
            for tag, value in self.series(name, moments).items():
                summary_writer.add_scalar(tag, value, samples_seen)

    def series(self, name: str, moments: Moments, tag: str | None = None) -> dict[str, float]:
        """Return the curves of one name, tag -> value: the mean, tagged `tag` or the name, and selected statistics."""
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
        if name != "loss":
            return False
        return any(each.from_histogram and self.shows(each) for each in table.SERIES)

    def moments(self) -> dict[str, Moments]:
        """Return the moments of every name that has values, on this rank, with one copy from the device."""
        found: dict[str, list[Moments]] = {}
        for (name, _), moments in self._recorded():
            found.setdefault(name, []).append(moments)
        return self.combined({name: Moments.merged(parts) for name, parts in found.items()})

    def combined(self, named: dict[str, Moments]) -> dict[str, Moments]:
        """Return merged moments by name, with those that derive from other names, as the total of an objective does.

        Whoever reads statistics of this recorder calls this method last, after all merging.
        """
        return named

    def statistics_state(self) -> dict[str, Any]:
        """Return the statistics of this rank as numbers and lists, to be saved beside the `state_dict`."""
        values = [(*key, moments.state()) for key, moments in self._recorded()]
        return {"rank": distributed.rank(), "ranks": distributed.world_size(), "values": values}

    def load_statistics_state(self, state: Mapping[str, Any]) -> None:
        """Replace the statistics by those of a `statistics_state`; the state of another rank is an `InputError`."""
        wanted, found = (distributed.rank(), distributed.world_size()), (state["rank"], state["ranks"])
        if wanted != found:
            raise InputError(
                f"{type(self).__name__}: wanted the statistics of rank {wanted[0]} of {wanted[1]}, found those of rank "
                f"{found[0]} of {found[1]}; save and load those of each rank, or drain() them before a checkpoint"
            )
        self.reset_avg()
        for name, replicated, saved in state["values"]:
            self.accumulators[name, replicated] = Accumulator.of(Moments.from_state(saved))

    def _recorded(self) -> list[tuple[tuple[str, bool], Moments]]:
        """Return name, whether values are replicated, and moments of all accumulators with values, staged ones too."""
        held = [*self.accumulators.items(), *self.staged.items()]
        found = zip([key for key, _ in held], on_host([accumulator for _, accumulator in held]), strict=True)
        return [(key, moments) for key, moments in found if moments.count]

    def _finite_moments(self) -> dict[str, Moments]:
        """Return the moments of every name, or raise a `NonFiniteError`."""
        found = self.moments()
        for name, moments in found.items():
            require_finite(type(self).__name__, name, moments)
        return found


def require_finite(term: str, name: str, moments: Moments) -> None:
    """Raise a `NonFiniteError` that names the term if one of its values was NaN or infinite."""
    if moments.nonfinite:
        what = term if name == "loss" else f"{term}, {name!r}"
        raise NonFiniteError(
            f"{what}: {moments.nonfinite:.0f} of {moments.count:.0f} values were not finite since the last reading; "
            "wanted finite values only. Look at its inputs, the learning rate and the precision"
        )


def _absorb(into: dict[tuple[str, bool], Accumulator], held: Mapping[tuple[str, bool], Accumulator]) -> None:
    """Move the values of accumulators to those of the same names."""
    for key, accumulator in held.items():
        if key not in into:
            into[key] = Accumulator()
        into[key].absorb(accumulator)
