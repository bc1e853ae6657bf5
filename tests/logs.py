"""Keeps the logging of tests apart from that of a command that runs in the same process."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def own_log_handlers() -> Iterator[None]:
    """Close the handlers that the block adds to the root logger, as Hydra does, and restore level and loggers."""
    root = logging.getLogger()
    before, level = [*root.handlers], root.level
    try:
        yield
    finally:
        for handler in [each for each in root.handlers if each not in before]:
            if type(handler) in (logging.StreamHandler, logging.FileHandler):  # pytest has others of its own
                root.removeHandler(handler)
                handler.close()
        root.setLevel(level)
        for name in [*logging.root.manager.loggerDict]:
            logging.getLogger(name).disabled = False
