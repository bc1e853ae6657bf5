"""Loads the model of a trained run from its folder, and evaluates it."""

from functools import cached_property
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lossframe.callbacks.monitor.loss_monitor import LossMonitor
from lossframe.data import shard_loaders
from lossframe.errors import InputError
from lossframe.objectives.objective import Objective
from lossframe.training import run
from lossframe.training.checks.user_errors import explain
from lossframe.training.run_folder import checkpoints, recorded

ON_ONE_CPU = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto"}
"""Options of a Trainer that evaluates in this process, wherever the run was trained."""

_EVALUATIONS = {"test": "test", "val": "validate"}
"""The method of a Trainer that evaluates each split."""


class LoadedRun:
    """A trained run: its `model`, `objective` and `learner` with the weights of a checkpoint, in evaluation mode.

    `config` is the run's resolved configuration, a plain dict. `data` is its datamodule, made and set up when it is
    first read.
    """

    def __init__(self, folder: Path, config: DictConfig, checkpoint: Path, data: Any = None) -> None:
        run.silence()
        self._made = data
        self.folder, self.checkpoint = folder, checkpoint
        self.config = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
        self._config = config
        self.state = checkpoints.contents(checkpoint)
        recorded.make_importable(folder, config)
        with torch.random.fork_rng(devices=[]):
            self.learner, callbacks = run.learner_of(config)
        self._monitors = [each for each in callbacks if isinstance(each, LossMonitor)]
        if str(config.trainer.precision) in ("64", "64-true"):
            self.learner.double()  # before its weights come, which float32 would round
        with checkpoints.naming(checkpoint):
            self.learner.on_load_checkpoint(self.state)
            self.learner.load_state_dict(self.state["state_dict"])
        self.learner.eval()

    @property
    def model(self) -> torch.nn.Module:
        """The model, which maps a batch to the entries that it adds to the frame."""
        return self.learner.model

    @property
    def objective(self) -> Objective:
        """The objective, which maps a frame to the total of its losses."""
        return self.learner.objective

    @cached_property
    def data(self) -> Any:
        """The datamodule, with its data loaded; an `InputError` says where the run found the data."""
        data = self.new_data()
        try:
            data.prepare_data()
            for stage in ("fit", "test"):
                data.setup(stage)
        except (InputError, OSError) as error:
            raise InputError(f"the data of {self.folder}: {explain(error)}; {self._started_in()}") from error
        return data

    def new_data(self, **options: Any) -> Any:
        """Return the datamodule without its data, perhaps with other options, as `path="new.csv"`.

        Samples are prepared as in the training. If the options choose other data, each split has all of their samples.
        """
        if self._made is not None and not options:
            return self._made
        config = self._config.copy()
        for key, value in options.items():
            OmegaConf.update(config.data, key, value, force_add=True)
        try:
            data = instantiate(config.data)
        except Exception as error:
            raise InputError(f"the data of {self.folder}: {explain(error) or error}; {self._started_in()}") from error
        recorded.as_trained(data, self.state, config)
        shard_loaders(data, config.seed)
        return data

    def evaluate(self, split: str = "test") -> dict[str, float]:
        """Return the metrics and the statistics of the losses on the split "test" or "val", by name, as `test/NAME`."""
        if split not in _EVALUATIONS:
            raise InputError(f"split={split!r}: wanted 'test' or 'val'")
        device = next(self.learner.parameters()).device
        trainer = self.trainer(**ON_ONE_CPU | ({} if device.type == "cpu" else {"accelerator": device.type}))
        numbers = self.measure(trainer, self.data, split)
        self.learner.to(device).eval()
        return numbers

    def trainer(self, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
        """Return a Trainer with the run's options and these, which writes nothing."""
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        everything = {**self.config["trainer"], **quiet, **options}
        trainer: pl.Trainer = instantiate(everything, callbacks=[*self._monitors, *callbacks], _convert_="all")
        return trainer

    def measure(self, trainer: pl.Trainer, data: Any, split: str) -> dict[str, float]:
        """Evaluate a split of a datamodule by a trainer, and return the metrics by name."""
        getattr(trainer, _EVALUATIONS[split])(self.learner, data, verbose=False)
        return {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(f"{split}/")}

    def _started_in(self) -> str:
        """Say where the run was started, from where it found its data."""
        file = self.folder / ".hydra" / "hydra.yaml"
        cwd = OmegaConf.select(OmegaConf.load(file), "hydra.runtime.cwd") if file.is_file() else None
        return f"the run was started in {cwd}" if cwd else "the run has no record of where it was started"


def load_run(folder: str | Path, checkpoint: str | Path = "best", device: str = "cpu") -> LoadedRun:
    """Load a run from its folder, with the weights of the checkpoint "best", "last" or of a file.

    The code of the run's own classes is imported, if need be from the project that the run was started in.
    """
    folder = Path(folder)
    config = recorded.configuration(folder)
    loaded = LoadedRun(folder, config, recorded.checkpoint_file(folder, checkpoint))
    loaded.learner.to(device)
    return loaded
