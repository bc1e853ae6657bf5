"""The one exception that lossframe raises on purpose."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """What was given does not fit; the message says what was wanted, what was found and what to do."""


class NonFiniteError(InputError, FloatingPointError):
    """A loss gave NaN or infinity; the message names the term."""


def names(entries: Iterable[object]) -> str:
    """Quote names for a message: `'a', 'b'`, or `nothing`."""
    return ", ".join(repr(str(entry)) for entry in entries) or "nothing"


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the known name closest to a misspelt one, as ` Did you mean 'x'?`, or say nothing.

    >>> nearest("margn", ["distance", "margin"])
    " Did you mean 'margin'?"
    """
    match = get_close_matches(name, list(known), n=1)
    return f" Did you mean {match[0]!r}?" if match else ""
