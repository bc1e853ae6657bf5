"""Keeps the logging of tests apart from that of a command that runs in the same process."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def own_log_handlers() -> Iterator[None]:
    """Close the handlers that the block adds to the root logger, as Hydra does, and restore level and loggers."""
    root = logging.getLogger()
    before, level = [*root.handlers], root.level
    _enable_loggers()
    try:
        yield
    finally:
        for handler in [each for each in root.handlers if each not in before]:
            if type(handler) in (logging.StreamHandler, logging.FileHandler):  # pytest has others of its own
                root.removeHandler(handler)
                handler.close()
        root.setLevel(level)
        _enable_loggers()


def _enable_loggers() -> None:
    """Undo what `hydra/job_logging=disabled` does to loggers, also in a fixture of a module."""
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.disabled = False
