"""Writes the hyperparameters and results of a run into TensorBoard's HParams tab."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytorch_lightning as pl
from tensorboard.plugins.hparams.summary_v2 import hparams_pb  # .api wants tensorflow
from torch.utils.tensorboard.summary import hparams

from lossframe import saved
from lossframe.callbacks.base import MonitorCallback
from lossframe.loggers import tags
from lossframe.loggers.files import run_name
from lossframe.loggers.tensorboard import is_tensorboard

Scalar = bool | int | float | str
STAGE = "val"
"""TensorBoard run that holds the session, because the tab looks for metrics in the run of the session only."""


class HParams(MonitorCallback):
    """Shows hyperparameters and results of a run in TensorBoard's HParams tab, and logs the former to other loggers.

    `hyperparameters` may be nested, and get dotted names such as `optimizer.lr`. They are written when training starts,
    so that a killed run is listed too. Results are the curves of the validation, whose TensorBoard run holds the
    session; `final/val/NAME`, the score of the best checkpoint; and `final/test/NAME`, the metrics of the test except
    the losses. Final results are written one sample, step or epoch after the end, where a resumed run purges them.
    """

    def __init__(self, hyperparameters: Mapping[str, Any]) -> None:
        self.hyperparameters = dict(flat(hyperparameters))
        self._end = 0
        self._written: dict[str, dict[str, Scalar]] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the hyperparameters, unless the checkpoint of a resumed run says that they are written."""
        for writer, _ in self.writers(trainer, STAGE):
            name = run_name(writer.log_dir.removesuffix(STAGE))
            if self._written.get(name) != self.hyperparameters:
                writer.add_unprefixed(hparams_pb(self.hyperparameters, trial_id=name))
            self._written[name] = dict(self.hyperparameters)
        for logger in trainer.loggers:
            if not is_tensorboard(logger):
                logger.log_hyperparams(self.hyperparameters)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the score of the best checkpoint, and the end of the session, also if no epoch was left to train."""
        checkpoint: Any = next((c for c in trainer.checkpoint_callbacks if hasattr(c, "best_model_score")), None)
        score = getattr(checkpoint, "best_model_score", None)
        _, _, end = hparams({}, {})
        for writer, step in self.writers(trainer, STAGE):
            self._end = step + 1
            if score is not None:
                writer.add_scalar(f"final/{checkpoint.monitor}", float(score), self._end)
            writer.add_unprefixed(end)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the metrics of the test, if it follows a training."""
        measured = {name: float(value) for name, value in trainer.callback_metrics.items() if _is_metric(name)}
        for writer, _ in self.writers(trainer, STAGE) if self._end else []:
            for name, value in measured.items():
                writer.add_scalar(f"final/{name}", value, self._end)

    def state_dict(self) -> dict[str, Any]:
        """Return the hyperparameters that are written, by the name of the run that shows them."""
        return {"written": self._written}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what is written."""
        saved.check(state_dict, {"written": {...: dict}}, type(self).__name__)
        self._written = dict(state_dict["written"])


def flat(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Scalar]]:
    """Yield the scalars in nested mappings under dotted names; `_target_` gives the name of a class.

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


def _is_metric(name: str) -> bool:
    """Return whether a curve of the test is a metric, and neither a loss, a weighted term nor a share."""
    of_terms = tuple(f"test/{kind}/" for kind in (tags.LOSS, tags.WEIGHTED, tags.SHARE))
    return name.startswith("test/") and not name.startswith(of_terms)
