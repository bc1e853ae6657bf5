"""Calls losses in the hooks of a LightningModule and keeps a journal of their values, for tests of `LossMonitor`."""

import inspect
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import Logger
from torch import Tensor

from lossframe import Loss, Objective

EVALUATION_HOOKS = (
    "on_{}_model_eval", "on_{}_start", "on_{}_epoch_start", "on_{}_batch_start", "{}_step", "on_{}_batch_end",
    "on_{}_epoch_end", "on_{}_end", "on_{}_model_train",
)  # fmt: skip
STAGES: dict[str, str] = {
    **dict.fromkeys(
        (
            "on_train_start", "on_train_epoch_start", "on_train_batch_start", "training_step", "on_before_zero_grad",
            "optimizer_zero_grad", "on_before_backward", "backward", "on_after_backward", "on_before_optimizer_step",
            "configure_gradient_clipping", "optimizer_step", "lr_scheduler_step", "on_train_batch_end",
            "on_train_epoch_end",
        ),
        "train",
    ),
    "on_validation_model_zero_grad": "val",
    **{hook.format("validation"): "val" for hook in EVALUATION_HOOKS},
    **{hook.format("test"): "test" for hook in EVALUATION_HOOKS},
    **{hook.format("predict"): "predict" for hook in EVALUATION_HOOKS[:-1]},
}  # fmt: skip
"""Stage of every hook that belongs to one."""
SHARED = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
"""Hooks of all stages, called before the hook that starts the batch."""
OUTSIDE = ("on_fit_start", "on_train_end", "on_fit_end")
"""Hooks of a training outside of its epochs."""


class Plain(Loss):
    """Returns the values that it is called with."""

    def loss(self, value: Tensor) -> Tensor:
        return value


class Centred(Loss):
    """Returns squared deviations from the mean of the batch of all ranks."""

    relational = True

    def loss(self, value: Tensor) -> Tensor:
        return (value - value.mean()).square()


@dataclass
class Entry:
    """Describes one call of a hook on one rank: its stage, its dataloader, the batch's samples and recorded values."""

    hook: str
    stage: str
    loader: int | None = None
    samples: int = 0
    calls: dict[str, list[list[float]]] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


class Caller(pl.LightningModule):
    """Calls the losses that `calls` names for a hook, each with its own random values, and journals the values.

    The terms are `first`, `whole` (both separable), `centred` (relational), `objective` (`near` and `far`), and
    `extra` and `centred_extra`, which are logged by `first.log` and `centred.log`.
    """

    def __init__(self, calls: dict[str, tuple[str, ...]], rank: int = 0, seed: int = 0, **options: Any) -> None:
        super().__init__()
        self.calls, self.rank, self.seed = calls, rank, seed
        self.journal: list[Entry] = []
        self.gain = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
        self.first, self.whole = Plain(**options), Plain(**options)
        self.centred = Centred(**options)
        scalar = options | ({"reduction": "mean"} if options.get("reduction") == "none" else {})
        terms = {"near": Plain(**scalar), "far": Plain(**scalar)}
        self.objective = Objective(terms, {"far": 0.5}, {"near": {"value": "a"}, "far": {"value": "b"}})

    def note(self, hook: str, batch: Any = None, loader: int | None = None) -> None:
        """Append an entry to the journal, and call the losses of the hook."""
        entry = Entry(hook, self.stage_of(hook), loader)
        entry.samples = len(batch) if isinstance(batch, Tensor) else 0
        self.journal.append(entry)
        for term in self.calls.get(hook, ()):
            self.call(term, entry)

    def stage_of(self, hook: str) -> str:
        """Return the stage of a hook, or "sanity"."""
        if self.trainer.sanity_checking:
            return "sanity"
        return STAGES.get(hook) or ("outside" if hook in OUTSIDE else self.current_stage())

    def current_stage(self) -> str:
        """Return the stage of a hook that all stages share."""
        names = {"training": "train", "validating": "val", "testing": "test", "predicting": "predict"}
        return next(stage for name, stage in names.items() if getattr(self.trainer, name))

    def call(self, term: str, entry: Entry) -> None:
        """Call the loss of a term with random values, at least one on rank 0, and add the values to the entry."""
        drawn = random.Random(f"{self.seed} {self.rank} {len(self.journal)} {term}")
        a, b = ([drawn.lognormvariate(0, 1) for _ in range(drawn.randint(self.rank == 0, 4))] for _ in range(2))
        noted = {"near": a, "far": b} if term == "objective" else {term: a}
        for name, values in noted.items():
            entry.calls.setdefault(name, []).append(values)
        x, y = (torch.tensor(values, dtype=torch.float64) for values in (a, b))
        match term:
            case "objective":
                self.objective({"a": x, "b": y})
            case "extra":
                self.first.log("extra", x)
            case "centred_extra":
                self.centred.log("extra", x)
            case _:
                getattr(self, term)(x)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.note("training_step", batch)
        return (self.gain * batch).sum()

    def validation_step(self, batch: Tensor, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.note("validation_step", batch, dataloader_idx)

    def test_step(self, batch: Tensor, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.note("test_step", batch, dataloader_idx)

    def predict_step(self, batch: Tensor, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.note("predict_step", batch, dataloader_idx)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.01)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 100), "interval": "step"},
        }


def _journalled(name: str) -> Callable[..., Any]:
    """Return an override of a hook that journals its call."""
    inherited = getattr(pl.LightningModule, name)
    signature = inspect.signature(inherited)

    def hook(self: Caller, *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        self.note(name, bound.arguments.get("batch"), bound.arguments.get("dataloader_idx"))
        return inherited(self, *args, **kwargs)

    hook.__signature__ = signature  # type: ignore[attr-defined] # Lightning looks for `dataloader_idx`
    return hook


for _name in (*STAGES, *SHARED, *OUTSIDE):
    if not _name.endswith("_step") or _name in ("optimizer_step", "lr_scheduler_step", "on_before_optimizer_step"):
        setattr(Caller, _name, _journalled(_name))


class RecordingLogger(Logger):
    """Keeps every point that the monitor writes, with numbers in full precision."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[tuple[str, int, dict[str, float]]] = []

    @property
    def name(self) -> str:
        return "recording"

    @property
    def version(self) -> str:
        return "0"

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Keep no hyperparameters."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        for stage in ("train", "val", "test", "predict"):
            prefix = f"{stage}/loss/"
            losses = {tag.removeprefix(prefix): float(v) for tag, v in metrics.items() if tag.startswith(prefix)}
            losses = {tag: value for tag, value in losses.items() if not tag.startswith("total")}
            if losses:
                self.points.append((stage, int(metrics["samples_seen"]), losses))
