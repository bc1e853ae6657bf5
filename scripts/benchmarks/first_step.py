"""A callback that ends the process when the first training step is done."""

import os
from typing import Any

import pytorch_lightning as pl


class FirstStep(pl.Callback):
    """Leaves nothing behind but exit code 0: what a run does after its first step is not start-up."""

    def on_train_batch_end(self, *args: Any) -> None:
        """End."""
        os._exit(0)
