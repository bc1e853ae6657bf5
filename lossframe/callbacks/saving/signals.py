"""Turns signals that end a run into a request to stop, which a callback serves where a checkpoint is whole."""

import os
import signal
from types import FrameType
from typing import Any


class StopRequest:
    """Handles the first Ctrl-C or SIGTERM of this process by a note; the second one ends the process at once.

    Under SLURM, SIGUSR1 is such a signal too.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        """The signal that has come; None before the first."""
        self.announces = True
        """Whether this process says that it is going to stop."""
        self._signals = [signal.SIGINT, signal.SIGTERM]
        if "SLURM_JOB_ID" in os.environ:  # sent ahead of the time limit, by `--signal=USR1@SECONDS`
            self._signals.append(signal.SIGUSR1)
        self._previous: dict[int, Any] = {}

    def remember(self) -> None:
        """Keep the signal handlers that are installed now, for `restore`."""
        self._previous = {number: signal.getsignal(number) for number in self._signals}

    def listen(self) -> None:
        """Install the handlers."""
        for number in self._signals:
            signal.signal(number, self._note)

    def ignore(self) -> None:
        """Install Python's own handlers, which end the process at once."""
        for number in self._signals:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    def restore(self) -> None:
        """Install the handlers that `remember` has kept."""
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._previous = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self.ignore()
        if self.announces:
            print("\nStopping where a checkpoint is whole; a second time stops at once.", flush=True)
