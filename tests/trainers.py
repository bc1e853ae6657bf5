"""Makes a small Trainer for tests."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytorch_lightning as pl


def tiny_trainer(folder: Path, callbacks: Sequence[Any] = (), lightning: ModuleType = pl, **options: Any) -> Any:
    """Return a quiet Trainer on the CPU that logs to TensorBoard in `folder`; `options` overrule its arguments.

    `lightning` is the package of the Trainer: `pytorch_lightning` or `lightning.pytorch`.
    """
    arguments: dict[str, Any] = {
        "max_epochs": 1,
        "accelerator": "cpu",
        "devices": 1,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
    }
    if "logger" not in options:
        arguments["logger"] = lightning.loggers.TensorBoardLogger(folder, name="", version="")
    return lightning.Trainer(callbacks=list(callbacks), **(arguments | options))
