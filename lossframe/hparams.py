"""Every run in TensorBoard's HParams tab."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from tensorboard.plugins.hparams.summary_v2 import hparams_pb  # .api wants tensorflow
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from lossframe.board import is_tensorboard
from lossframe.companion import Companion

Scalar = bool | int | float | str


class HParams(Companion):
    """Shows what a run was given, and what it reached, in TensorBoard's HParams tab; the former in every other logger.

    `hyperparameters` may be nested: they are named as `optimizer.lr`. They are written when training starts, so that
    a run that is killed is there too. At the end, `final/val/TAG` is what the last validation gave, `final/test/TAG`
    what the test gave, and `best/val/TAG` the score of the best checkpoint. All of it is in the stage `train`, for
    the tab looks for a run's numbers nowhere else.
    """

    def __init__(self, hyperparameters: Mapping[str, Any]) -> None:
        self.hyperparameters = dict(flat(hyperparameters))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the hyperparameters."""
        for writer, _ in self.writers(trainer, "train"):
            folder = Path(writer.log_dir).resolve().parent
            _add(writer, hparams_pb(self.hyperparameters, trial_id=f"{folder.parent.name}/{folder.name}"))
        for logger in trainer.loggers:
            if not is_tensorboard(logger):
                logger.log_hyperparams(self.hyperparameters)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what the last validation gave, and that training is over."""
        checkpoint: Any = trainer.checkpoint_callback
        score = getattr(checkpoint, "best_model_score", None)
        self._write(trainer, "val", {} if score is None else {f"best/{checkpoint.monitor}": float(score)})
        for writer, _ in self.writers(trainer, "train"):
            _, _, end = hparams({}, {})
            _add(writer, end)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what the test gave."""
        self._write(trainer, "test", {})

    def _write(self, trainer: pl.Trainer, stage: str, scalars: dict[str, float]) -> None:
        measured = trainer.callback_metrics.items()
        scalars |= {f"final/{name}": float(value) for name, value in measured if name.startswith(f"{stage}/")}
        for writer, step in self.writers(trainer, "train"):
            for tag, value in scalars.items():
                writer.add_scalar(tag, value, step)


def _add(writer: SummaryWriter, summary: Any) -> None:
    events: Any = writer.file_writer
    events.add_summary(summary)


def flat(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Scalar]]:
    """Yield the scalars in nested mappings by their names joined with dots; `_target_` is the class's name.

    >>> dict(flat({"optimizer": {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.1}, "seed": 1}))
    {'optimizer': 'Adam', 'optimizer.lr': 0.1, 'seed': 1}
    """
    for key, value in nested.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            yield from flat(value, name)
        elif key == "_target_":
            yield prefix, value.rpartition(".")[2]
        elif value is not None and not str(key).startswith("_"):
            yield name, value if isinstance(value, Scalar) else str(value)
