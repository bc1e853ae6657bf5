"""Ends a job of a sweep early if its validation metric is worse than those of other jobs, by a pruner of optuna."""

from pathlib import Path
from typing import Any

import optuna
import pytorch_lightning as pl
import torch

from lossframe import distributed
from lossframe.losses.base import checks
from lossframe.report.endings import PRUNED

_DIRECTIONS: dict[str, Any] = {"min": "minimize", "max": "maximize"}


class Pruning(pl.Callback):
    """Reports a validation metric to a study of the sweep after each epoch, and stops a run that its pruner gives up.

    The jobs share the study in a file beside their run directories, whatever sweeper and launcher started them. Rank 0
    decides, and all ranks stop after the same epoch. The best checkpoint of a pruned run is tested as usual.
    """

    def __init__(self, monitor: str, mode: str, run_dir: str | None, pruner: optuna.pruners.BasePruner) -> None:
        self.monitor = monitor
        self.mode = checks.one_of("mode", mode, tuple(_DIRECTIONS))
        self.run_dir = Path(run_dir or ".")  # none while a configuration is checked
        self.pruner = pruner
        self._trial: optuna.trial.Trial | None = None
        self._value: float | None = None
        self._validated = False
        self._pruned = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a trial of the study on rank 0; so does a run that goes on from a checkpoint."""
        if trainer.is_global_zero:
            (self.run_dir / PRUNED).unlink(missing_ok=True)
            self._trial = self._study().ask()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that this epoch has a value of its own."""
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the metric of this epoch's last validation, and stop all ranks if the pruner says so."""
        value = trainer.callback_metrics.get(self.monitor)
        if not self._validated or value is None:
            return
        self._validated = False
        self._value = float(value)
        epoch, given_up = trainer.current_epoch, False
        if self._trial is not None:
            self._trial.report(self._value, epoch)
            given_up = self._trial.should_prune()
        if distributed.anywhere(torch.tensor(given_up)):
            trainer.should_stop = self._pruned = True
            if trainer.is_global_zero:
                text = f"pruned at epoch {epoch}, with {self.monitor} {self._value:.4g}"
                print(text, flush=True)
                (self.run_dir / PRUNED).write_text(f"{text}\n", "utf-8")

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the trial; later jobs are compared with it unless it was pruned."""
        state = optuna.trial.TrialState.PRUNED if self._pruned else optuna.trial.TrialState.COMPLETE
        if self._trial is not None and self._value is not None:
            self._trial.study.tell(self._trial, None if self._pruned else self._value, state=state)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """End the trial of a run that failed."""
        if self._trial is not None:
            self._trial.study.tell(self._trial, state=optuna.trial.TrialState.FAIL)

    def _study(self) -> optuna.Study:
        """Open the study of the sweep, which all jobs share."""
        file = self.run_dir.parent / "pruning.log"
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return optuna.create_study(
            storage=_storage(file),
            study_name="pruning",
            direction=_DIRECTIONS[self.mode],
            pruner=self.pruner,
            load_if_exists=True,
        )


def _storage(file: Path) -> Any:
    """Return the journal of a study; with optuna 2, which hydra-optuna-sweeper 1.3 wants, a database.

    A database is not safe on a network file system.
    """
    try:
        from optuna.storages import JournalStorage  # noqa: PLC0415
        from optuna.storages.journal import JournalFileBackend  # noqa: PLC0415
    except ImportError:
        return f"sqlite:///{file.with_suffix('.db')}"
    return JournalStorage(JournalFileBackend(str(file)))
