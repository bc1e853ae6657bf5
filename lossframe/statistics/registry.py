"""Lists the recorders of this process, so that a monitor notices those that were made or used outside of its module."""

from typing import Any
from weakref import WeakSet

_recorders: WeakSet[Any] = WeakSet()
_created = [0]


def add(recorder: Any) -> None:
    """Add a recorder that was constructed, copied or unpickled."""
    _created[0] += 1
    _recorders.add(recorder)


def created() -> int:
    """Return how many recorders were made in this process so far."""
    return _created[0]


def recorders() -> list[Any]:
    """Return the recorders that are still alive."""
    return list(_recorders)
