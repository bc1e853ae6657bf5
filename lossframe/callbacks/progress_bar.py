"""Shows the total, the terms and the validation metrics on one line of a progress bar."""

import shutil
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar

from lossframe.objectives.wiring import Frame

_BEFORE = 40  # characters before the numbers, as in `Epoch 19: 100% 120/120 [00:00, 15.49it/s,`


class ProgressBar(TQDMProgressBar):
    """Extends Lightning's tqdm bar: shows the numbers that fit the terminal, the total first, and then the bar.

    Names lose `train/loss/` and `val/`; the version number is hidden.
    """

    BAR_FORMAT = "{desc}{percentage:3.0f}% {n_fmt}/{total_fmt} [{remaining}, {rate_noinv_fmt}{postfix}] {bar}"

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Frame:  # type: ignore[override]
        """Return what the bar shows: name -> number."""
        room = shutil.get_terminal_size().columns - _BEFORE
        shown: dict[str, Any] = {}
        for name, value in super().get_metrics(trainer, pl_module).items():
            short = name.removeprefix("train/loss/").removeprefix("val/")
            if name != "v_num":
                room -= len(f", {short}={value:.3g}" if isinstance(value, float) else f", {short}={value}")
                if room >= 0:
                    shown[short] = value
        return shown
