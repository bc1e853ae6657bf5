"""Keeps the position of a loader in its epoch, from which a resumed training goes on."""

from collections.abc import Mapping
from typing import Any

from lossframe import saved
from lossframe.data.samplers import GlobalBatchSampler
from lossframe.errors import InputError

FORM = {"epoch": int, "batches": int, "of": str}
"""The form of a saved position: the epoch, how many of its batches were given out, and which batches these are."""


class Position:
    """The position in the epochs of a sampler, the same on every rank."""

    def __init__(self, sampler: GlobalBatchSampler) -> None:
        self.sampler = sampler
        self._of = _described(sampler)  # before a sampler of the user's own counts what it gives out
        self._epoch = self._batches = 0
        self._resumed = ""  # what a loaded position says of its batches

    def start(self) -> int:
        """Return how many batches of this epoch were given out before the position was saved.

        Raises an `InputError` if the epoch now has other batches, so that samples would be left out or repeated.
        """
        saved_of, self._resumed = self._resumed, ""
        if not saved_of or self._epoch != self.sampler.epoch:
            return 0
        if self._batches and saved_of != self._of:
            raise InputError(
                f"the checkpoint was saved in the middle of an epoch of {saved_of}: wanted the same batches, found "
                f"{self._of}; give data.batch_size and data.sampler back, or go on from a checkpoint of an epoch's end"
            )
        return self._batches

    def give_out(self, number: int) -> None:
        """Note that so many batches of the sampler's epoch are given out."""
        self._epoch, self._batches = self.sampler.epoch, number

    def state_dict(self) -> dict[str, Any]:
        """Return the position for a checkpoint."""
        return {"epoch": self._epoch, "batches": self._batches, "of": self._of}

    def load_state_dict(self, state: Mapping[str, Any], name: str) -> None:
        """Go on from a position that was saved, as a part of this name."""
        saved.check(state, FORM, name)
        self._epoch, self._batches, self._resumed = state["epoch"], state["batches"], state["of"]


def _described(sampler: GlobalBatchSampler) -> str:
    """Say how many batches a sampler's epoch has, and by which sampler and options.

    >>> from lossframe.data.samplers import OrderedBatchSampler
    >>> _described(OrderedBatchSampler(10, batch_size=4))
    '3 batches by OrderedBatchSampler(seed 0, size 10, batch_size 4)'
    """
    options = {name: each for name, each in vars(sampler).items() if type(each) in (int, bool) and name[0] != "_"}
    shown = ", ".join(f"{name} {each}" for name, each in options.items() if name != "epoch")
    return f"{len(sampler)} batches by {type(sampler).__name__}({shown})"
