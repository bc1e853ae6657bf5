"""How a call with random input may end: with a value, or with one line of an error that is documented."""

import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from lossframe.training.checks.user_errors import explain

LONGEST = 20
"""Seconds after which a call counts as one that hangs."""


class FailureError(Exception):
    """What should not have come of a case."""


def ending(function: Callable[[], Any]) -> str:
    """Call a function and say whether its input was "accepted" or "refused"; anything else is a `FailureError`."""
    try:
        with warnings.catch_warnings(), limited():
            warnings.simplefilter("ignore")
            function()
    except FailureError:
        raise
    except Exception as error:
        line = explain(error)
        if line is None:
            raise FailureError(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from error
        if not line.strip() or "\n" in line:
            raise FailureError(f"wanted one line, found {line!r}") from error
        return "refused"
    return "accepted"


@contextmanager
def limited() -> Iterator[None]:
    """Raise a `FailureError` in what takes too long."""

    def end(number: int, frame: FrameType | None) -> None:
        raise FailureError(f"took more than {LONGEST} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
