"""Lightning's TensorBoard logger for a run whose stages the LossMonitor writes."""

from collections.abc import Callable
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger


class RunFolder(TensorBoardLogger):
    """Says where the stages' runs are, and makes a run of its own, with an hparams.yaml, only when it is written to.

    Lightning's own opens one as soon as a trainer starts: TensorBoard would list an empty run beside the stages.
    """

    @property
    def experiment(self) -> Any:
        """Return the writer of the run of its own, which is opened when it is used."""
        return _WhenUsed(lambda: super(RunFolder, self).experiment)

    def save(self) -> None:
        """Flush what was written, if anything was."""
        if self._experiment is not None:
            super().save()


class _WhenUsed:
    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> Any:
        return getattr(self._make(), name)
