"""Checks the numbers of things that constructors take."""

from collections.abc import Sequence

from lossframe.errors import InputError


def check_counts(owner: object, least: int = 1, most: int = 2**63 - 1, **counts: int) -> None:
    """Raise an `InputError` unless each parameter of `owner` is a whole number from `least` to `most`.

    >>> check_counts("Mlp", hidden=0)
    Traceback (most recent call last):
    ...
    lossframe.errors.InputError: Mlp: wanted hidden >= 1, a whole number, found 0
    """
    name = owner if isinstance(owner, str) else type(owner).__name__
    for parameter, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < least:
            raise InputError(f"{name}: wanted {parameter} >= {least}, a whole number, found {count!r}")
        if count > most:
            raise InputError(f"{name}: wanted {parameter} <= {most}, found {count}")


def check_given_counts(owner: object, **counts: int | None) -> None:
    """Raise an `InputError` unless each parameter of `owner` is None or a whole number of at least 1."""
    check_counts(owner, **{parameter: count for parameter, count in counts.items() if count is not None})


def check_image_shape(owner: object, image_shape: Sequence[int] | None) -> None:
    """Raise an `InputError` unless the shape of images, if any is given, has channels, height and width."""
    if image_shape is not None:
        whole = [isinstance(each, int) and not isinstance(each, bool) and each >= 1 for each in image_shape]
        if len(whole) != 3 or not all(whole):
            raise InputError(
                f"{type(owner).__name__}: wanted image_shape as channels, height and width, three whole numbers of at "
                f"least 1, found {list(image_shape)}"
            )
