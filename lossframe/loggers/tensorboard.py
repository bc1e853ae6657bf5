"""Extends Lightning's TensorBoard logger for runs whose stages the LossMonitor writes."""

from collections.abc import Callable
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger


class LazyTensorBoardLogger(TensorBoardLogger):
    """Names the directory of a run, and opens an event file and an hparams.yaml there only at the first write.

    Lightning's logger opens both when a trainer starts, so that TensorBoard lists an empty run next to the stages.
    """

    @property
    def experiment(self) -> Any:
        """Return a proxy of Lightning's writer, which opens the event file at its first use."""
        return _WhenUsed(lambda: super(LazyTensorBoardLogger, self).experiment)

    def save(self) -> None:
        """Flush the event file, if it is open."""
        if self._experiment is not None:
            super().save()


class _WhenUsed:
    """Forwards attributes to an object that `make` creates at the first use."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> Any:
        return getattr(self._make(), name)
