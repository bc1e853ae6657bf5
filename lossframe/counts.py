"""Checks the numbers of things that constructors take."""

from lossframe.errors import InputError


def check_counts(owner: object, least: int = 1, **counts: int) -> None:
    """Raise an `InputError` unless each parameter of `owner` is a whole number of at least `least`.

    >>> check_counts("Mlp", hidden=0)
    Traceback (most recent call last):
    ...
    lossframe.errors.InputError: Mlp: wanted hidden >= 1, a whole number, found 0
    """
    name = owner if isinstance(owner, str) else type(owner).__name__
    for parameter, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < least:
            raise InputError(f"{name}: wanted {parameter} >= {least}, a whole number, found {count!r}")
