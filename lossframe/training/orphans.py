"""Ends a rank whose launcher has ended, so that none is left behind."""

import os
import sys
import threading
import time

LAUNCHER = "LOSSFRAME_LAUNCHER"
"""The environment variable that holds the id of the process that has started this one as a rank."""


def end_with_launcher() -> None:
    """Let this rank end soon after the process that has started it, rank 0 or torchrun: it may be killed.

    A rank would otherwise wait for rank 0 for half an hour if there is no connection yet, or train on without torchrun.
    """
    parent = str(os.getppid()) if "TORCHELASTIC_RUN_ID" in os.environ else None
    launcher = os.environ.pop(LAUNCHER, parent)
    if launcher is not None:
        threading.Thread(target=_watch_launcher, args=(int(launcher),), daemon=True).start()


def _watch_launcher(launcher: int) -> None:
    """End this process once its parent is another one than the launcher."""
    while os.getppid() == launcher:
        time.sleep(0.5)
    print(f"the process {launcher}, which has started this rank, has ended; stopping", file=sys.stderr, flush=True)
    os._exit(1)
