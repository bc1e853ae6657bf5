"""Shows the total, the terms and the validation metrics on one line of a progress bar."""

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar

from lossframe.objectives.wiring import Frame


class ProgressBar(TQDMProgressBar):
    """Extends Lightning's tqdm bar: drops `train/loss/` and `val/` from names, and hides the version number."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Frame:  # type: ignore[override]
        """Return what the bar shows: name -> number."""
        metrics = super().get_metrics(trainer, pl_module)
        return {
            name.removeprefix("train/loss/").removeprefix("val/"): v for name, v in metrics.items() if name != "v_num"
        }
