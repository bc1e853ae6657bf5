"""Base class of callbacks that draw one image from the outputs of validation and test steps."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from lossframe.callbacks.base import MonitorCallback
from lossframe.counts import check_counts
from lossframe.errors import InputError, names
from lossframe.loggers.tensorboard import is_tensorboard


class ImageCallback(MonitorCallback, ABC):
    """Abstract base: collects the mappings that `validation_step` and `test_step` return, and draws one image of them.

    `entries` maps each name that a subclass reads to an entry of the returned mapping, name -> tensor. The image is
    drawn after the validation of every `every_n_epochs`-th epoch and after the test; with `every_n_epochs=None` of the
    last validation only, when training ends, and after the test. Only the first of several dataloaders is drawn.
    """

    def __init__(self, entries: Mapping[str, str | None], every_n_epochs: int | None) -> None:
        if every_n_epochs is not None:
            check_counts(self, every_n_epochs=every_n_epochs)
        self.entries = {name: entry for name, entry in entries.items() if entry is not None}
        self.reads = frozenset(self.entries.values())
        self.every_n_epochs = every_n_epochs

    @abstractmethod
    def start(self) -> None:
        """Drop the entries of an earlier evaluation."""

    @abstractmethod
    def add(self, batch_idx: int, entries: Mapping[str, Tensor]) -> None:
        """Collect entries of this rank's part of a batch."""

    @abstractmethod
    def gather(self) -> Any:
        """Return the collected entries of all ranks, None if there are none; must be called on every rank."""

    @abstractmethod
    def write(self, writer: SummaryWriter, step: int, seen: Any, class_names: list[str] | None) -> None:
        """Draw the collected entries of all ranks, and write the image."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Raise an `InputError` before training if no logger is TensorBoard's."""
        super().setup(trainer, pl_module, stage)
        tried_out: int = getattr(trainer, "fast_dev_run")  # noqa: B009 - Lightning's stubs do not know it
        if not tried_out and not any(is_tensorboard(logger) for logger in trainer.loggers):
            found = names(type(logger).__name__ for logger in trainer.loggers)
            raise InputError(f"{type(self).__name__} draws into TensorBoard: add a TensorBoardLogger to {found}")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start collecting for a new evaluation."""
        self.start()

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Collect a batch, if the image of this epoch is drawn."""
        if self._is_due(trainer) and dataloader_idx == 0:
            self.add(batch_idx, self._read(f"{type(pl_module).__name__}.validation_step", outputs))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the image, unless drawing is deferred to the end of training."""
        if self._is_due(trainer) and (self.every_n_epochs or trainer.state.fn != "fit"):
            self._draw(trainer, "val")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the last validation, if drawing was deferred to the end of training."""
        if self.every_n_epochs is None:
            self._draw(trainer, "val")

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start collecting for a new evaluation."""
        self.start()

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Collect a batch of the test."""
        if dataloader_idx == 0:
            self.add(batch_idx, self._read(f"{type(pl_module).__name__}.test_step", outputs))

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the image of the test."""
        self._draw(trainer, "test")

    def _is_due(self, trainer: pl.Trainer) -> bool:
        """Return whether the current validation is collected: every n-th epoch, and any outside of training."""
        if trainer.sanity_checking:
            return False
        return trainer.state.fn != "fit" or (trainer.current_epoch + 1) % (self.every_n_epochs or 1) == 0

    def _read(self, step: str, outputs: Any) -> dict[str, Tensor]:
        """Return the entries to read from a step's outputs, or raise an `InputError` that names the missing ones."""
        found = f"a mapping of {names(outputs)}" if isinstance(outputs, Mapping) else type(outputs).__name__
        missing = [entry for entry in self.entries.values() if not isinstance(outputs, Mapping) or entry not in outputs]
        if missing:
            raise InputError(
                f"{type(self).__name__} reads {names(missing)} of the mapping that {step} returns, which is {found}: "
                f"return {{{', '.join(f'{entry!r}: ...' for entry in self.entries.values())}}} there, name -> tensor"
            )
        return {name: outputs[entry] for name, entry in self.entries.items()}

    def _draw(self, trainer: pl.Trainer, stage: str) -> None:
        """Gather the entries of all ranks, and write the image on rank 0."""
        seen = self.gather()
        if seen is None:
            return
        class_names: list[str] | None = getattr(getattr(trainer, "datamodule", None), "class_names", None)
        for writer, step in self.writers(trainer, stage):
            self.write(writer, step, seen, class_names)


def named(labels: Tensor, class_names: list[str] | None) -> list[str]:
    """Return the class name of each label, or its number if there is no name."""
    numbers = [int(label) for label in labels]
    return [class_names[k] if class_names and 0 <= k < len(class_names) else str(k) for k in numbers]
