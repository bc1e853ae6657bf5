"""Stages recorded values of training until the optimiser's step, so that a skipped step leaves them out."""

from collections.abc import Mapping
from dataclasses import replace

from lossframe.statistics.accumulator import on_host
from lossframe.statistics.moments import Moments
from lossframe.statistics.recorder import Recorder
from lossframe.statistics.snapshot import Parts


class Staging:
    """Sets recorded values of training aside until the optimiser's step: a step adds them, a skipped one drops them.

    If not `active`, recorders record as usual. Values that no step settles, as at the end of an epoch, are added too.
    """

    def __init__(self, active: bool) -> None:
        self.active = active
        self._on = False
        self._recorders: Mapping[str, Recorder] = {}
        self._dropped: dict[tuple[str, str, bool], list[Moments]] = {}

    @property
    def on(self) -> bool:
        """Whether values are staged now."""
        return self.active and self._on

    def watch(self, recorders: Mapping[str, Recorder]) -> None:
        """Choose the recorders, by term."""
        for recorder in self._recorders.values():
            recorder.stage(False)
        self._recorders = recorders
        self.switch(self._on)

    def switch(self, on: bool) -> None:
        """Start staging, in training, or stop it, for an evaluation. Staged values stay staged."""
        self._on = on
        for recorder in self._recorders.values():
            recorder.stage(self.on)

    def join(self) -> None:
        """Add the staged values to the statistics."""
        for recorder in self._recorders.values():
            recorder.join()

    def drop(self) -> None:
        """Leave the staged values out, and keep their moments until `dropped`; waits for the device."""
        held = {(term, *key): a for term, recorder in self._recorders.items() for key, a in recorder.staged.items()}
        for key, moments in zip(held, on_host(list(held.values())), strict=True):
            if moments.count:
                self._dropped.setdefault(key, []).append(replace(moments, histogram=None))
        for recorder in self._recorders.values():
            recorder.staged.clear()

    def dropped(self) -> Parts:
        """Return the moments of the values that were left out since the last call, on this rank."""
        dropped, self._dropped = self._dropped, {}
        return {key: Moments.merged(parts) for key, parts in dropped.items()}
