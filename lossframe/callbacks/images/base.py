"""What all pictures share: when they are made, what they read, and where they go."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from lossframe.callbacks.base import Companion
from lossframe.errors import InputError, names
from lossframe.loggers.stage_writer import is_tensorboard


class Picture(Companion, ABC):
    """Abstract: a picture of what `validation_step` and `test_step` return, a mapping name -> tensor.

    `entries` says which entry of that mapping is read as what. It is drawn at the end of every `every_n_epochs`-th
    epoch's validations and of the test; with `every_n_epochs=None` of the last validation only, when training ends.
    Only the first of several data loaders is drawn.
    """

    def __init__(self, entries: Mapping[str, str | None], every_n_epochs: int | None) -> None:
        if every_n_epochs is not None and every_n_epochs < 1:
            raise InputError(f"{type(self).__name__}: wanted every_n_epochs >= 1, found {every_n_epochs}")
        self.entries = {name: entry for name, entry in entries.items() if entry is not None}
        self.reads = frozenset(self.entries.values())
        self.every_n_epochs = every_n_epochs

    @abstractmethod
    def start(self) -> None:
        """Forget what was seen."""

    @abstractmethod
    def add(self, batch_idx: int, entries: Mapping[str, Tensor]) -> None:
        """See this rank's part of a batch."""

    @abstractmethod
    def gather(self) -> Any:
        """Return what all ranks saw, or None where that is nothing; called by all ranks."""

    @abstractmethod
    def write(self, writer: SummaryWriter, step: int, seen: Any, class_names: list[str] | None) -> None:
        """Draw what all ranks saw."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse what cannot be written before anything is trained."""
        super().setup(trainer, pl_module, stage)
        tried_out: int = getattr(trainer, "fast_dev_run")  # noqa: B009 - Lightning's stubs do not know it
        if not tried_out and not any(is_tensorboard(logger) for logger in trainer.loggers):
            found = names(type(logger).__name__ for logger in trainer.loggers)
            raise InputError(f"{type(self).__name__} draws into TensorBoard: add a TensorBoardLogger to {found}")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start anew."""
        self.start()

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """See a batch of an epoch that is drawn."""
        if self._is_due(trainer) and dataloader_idx == 0:
            self.add(batch_idx, self._read(f"{type(pl_module).__name__}.validation_step", outputs))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw, unless the end of training is waited for."""
        if self._is_due(trainer) and (self.every_n_epochs or trainer.state.fn != "fit"):
            self._draw(trainer, "val")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the last validation, if this was waited for."""
        if self.every_n_epochs is None:
            self._draw(trainer, "val")

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start anew."""
        self.start()

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """See a batch."""
        if dataloader_idx == 0:
            self.add(batch_idx, self._read(f"{type(pl_module).__name__}.test_step", outputs))

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw."""
        self._draw(trainer, "test")

    def _is_due(self, trainer: pl.Trainer) -> bool:
        if trainer.sanity_checking:
            return False
        return trainer.state.fn != "fit" or (trainer.current_epoch + 1) % (self.every_n_epochs or 1) == 0

    def _read(self, step: str, outputs: Any) -> dict[str, Tensor]:
        found = f"a mapping of {names(outputs)}" if isinstance(outputs, Mapping) else type(outputs).__name__
        missing = [entry for entry in self.entries.values() if not isinstance(outputs, Mapping) or entry not in outputs]
        if missing:
            raise InputError(
                f"{type(self).__name__} reads {names(missing)} of the mapping that {step} returns, which is {found}: "
                f"return {{{', '.join(f'{entry!r}: ...' for entry in self.entries.values())}}} there, name -> tensor"
            )
        return {name: outputs[entry] for name, entry in self.entries.items()}

    def _draw(self, trainer: pl.Trainer, stage: str) -> None:
        seen = self.gather()
        if seen is None:
            return
        class_names: list[str] | None = getattr(getattr(trainer, "datamodule", None), "class_names", None)
        for writer, step in self.writers(trainer, stage):
            self.write(writer, step, seen, class_names)


def named(labels: Tensor, class_names: list[str] | None) -> list[str]:
    """Return each label's class name, or its number where the data gives no name."""
    numbers = [int(label) for label in labels]
    return [class_names[k] if class_names and 0 <= k < len(class_names) else str(k) for k in numbers]
