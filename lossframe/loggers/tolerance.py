"""Lets a training go on while a logger or a file fails that has worked before."""

import logging
from collections.abc import Callable
from typing import Any

from lossframe.errors import InputError

_log = logging.getLogger(__name__)
_CALLS = ("log_metrics", "log_hyperparams", "log_graph", "after_save_checkpoint", "save", "finalize")


class Tolerance:
    """Counts the failures of `what`. What has never worked raises its error; what has worked only logs a warning.

    A wrong key or a full disk thus ends a run at its first point, and a later failure, of a server or a disk, does not.
    The first of a series of failures is logged, and how many there were once `what` works again.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.failures = 0
        self.has_worked = False

    def attempt(self, write: Callable[..., object], *arguments: Any) -> None:
        """Call a function that writes files; an error of the file system is a failure."""
        try:
            write(*arguments)
        except OSError as error:
            self.fails(error)
        else:
            self.works()

    def works(self) -> None:
        """Note a success."""
        self.has_worked = True
        if self.failures:
            _log.warning("%s works again after %d failures", self.what, self.failures)
        self.failures = 0

    def fails(self, error: Exception) -> None:
        """Note a failure, or raise it."""
        if not self.has_worked:
            raise error
        if not self.failures:
            reason = f"{type(error).__name__}: {error}"
            _log.warning("%s fails: %s. The training goes on, and tries again", self.what, reason)
        self.failures += 1

    def loses(self, number: int, things: str) -> None:
        """Say that something is lost for good."""
        _log.warning("%s: %d %s are lost", self.what, number, things)


def _check(logger: object) -> None:
    if not all(hasattr(logger, name) for name in _CALLS):
        raise InputError(f"logger: wanted a logger of Lightning, found {type(logger).__name__}; mend its _target_")


def tolerant(logger: Any) -> Any:
    """Return a Lightning logger whose methods, once it has logged and saved, no longer end a training by an error.

    `finalize` never raises: it would hide the error that has ended a training.
    """
    _check(logger)
    tolerance, has_logged = Tolerance(type(logger).__name__), False

    def spared(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> None:
            nonlocal has_logged
            try:
                method(*args, **kwargs)
            except Exception as error:
                has_logged = False
                if name == "finalize":
                    _log.warning("%s could not finish: %s: %s", tolerance.what, type(error).__name__, error)
                else:
                    tolerance.fails(error)
                return
            if name == "finalize" and tolerance.failures:
                tolerance.loses(tolerance.failures, "calls")
            has_logged = has_logged or name == "log_metrics"
            if name == "save" and has_logged:
                tolerance.works()

        return call

    for name in _CALLS:
        setattr(logger, name, spared(name, getattr(logger, name)))
    return logger
