"""The progress bar: one line with the total, the terms and the validation metrics."""

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar

from lossframe.objectives.wiring import Frame


class ProgressBar(TQDMProgressBar):
    """Shows each name without its `train/loss/` or `val/`, and no version number."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Frame:  # type: ignore[override]
        """Return what the bar shows: name -> number."""
        metrics = super().get_metrics(trainer, pl_module)
        return {
            name.removeprefix("train/loss/").removeprefix("val/"): v for name, v in metrics.items() if name != "v_num"
        }
