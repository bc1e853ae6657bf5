"""Keeps the log handlers of tests apart from those of a command that runs in the same process."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def own_log_handlers() -> Iterator[None]:
    """Close the handlers that the block adds to the root logger, as Hydra does, and restore those of before."""
    root = logging.getLogger()
    before = [*root.handlers]
    try:
        yield
    finally:
        for handler in root.handlers:
            if handler not in before:
                handler.close()
        root.handlers[:] = before
