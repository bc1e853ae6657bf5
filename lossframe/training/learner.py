"""Defines `Learner`, the `LightningModule` that trains a model on an objective."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torchmetrics import Metric

from lossframe import distributed
from lossframe.callbacks.monitor.loss_monitor import LossMonitor
from lossframe.errors import InputError, names
from lossframe.objectives.objective import Objective
from lossframe.objectives.wiring import Frame
from lossframe.saved import StateError
from lossframe.training import reconfigured, restored
from lossframe.training.checks import model_contract
from lossframe.training.run_folder import checkpoints


class FrameMetric(TypedDict):
    """A metric, and the entries of the frame that are passed to its `update`, in order."""

    reads: list[str]
    metric: Metric


class Learner(pl.LightningModule):
    """Trains `model` on `objective`, and evaluates the objective and metrics on the validation and test splits.

    `model` maps a batch (name -> tensor) to further entries; batch and entries together are the frame that the
    objective and the metrics read. `optimizer` makes an optimiser for an iterable of parameters, `scheduler` a
    learning-rate scheduler for an optimiser, stepped once an epoch. Their options hold against those of a checkpoint.
    Results of `metrics` are logged as `val/NAME` and `test/NAME`.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        metrics: Mapping[str, FrameMetric] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.metrics = dict(metrics or {})
        self.metric_modules = nn.ModuleList([metric["metric"] for metric in self.metrics.values()])
        self.objective.bind(model)
        self._sharded = False
        self._checked_gradients = False
        self._checked_frames: set[bool] = set()

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **options: Any) -> "Learner":
        """Return the learner of the run that wrote a checkpoint; or make one of constructor arguments."""
        if args or options:
            made: Learner = super().load_from_checkpoint(checkpoint_path, *args, **options)
            return made
        from lossframe.training.loaded_run import load_run
        from lossframe.training.run_folder.run_dir import of_checkpoint

        return load_run(of_checkpoint(checkpoint_path), checkpoint_path).learner

    def setup(self, stage: str) -> None:
        """Convert to float64 before a checkpoint is loaded: Lightning converts afterwards, and rounds its values."""
        if self.trainer.precision == "64-true":
            self.double()

    def configure_callbacks(self) -> list[pl.Callback]:
        """Return a LossMonitor if the Trainer has none: its metrics, as `val/loss/total`, are what schedulers watch."""
        callbacks: list[pl.Callback] = getattr(self.trainer, "callbacks")  # noqa: B009 - Lightning's stubs lack it
        return [] if any(isinstance(each, LossMonitor) for each in callbacks) else [LossMonitor()]

    def configure_model(self) -> None:
        """Shard the model where the strategy is FSDP2."""
        if self.device_mesh is not None and not self._sharded:
            distributed.shard(self.model, self.device_mesh["data_parallel"])
            self._sharded = True

    def on_fit_start(self) -> None:
        """Warn of batch normalisation over each rank's own samples: results then depend on the number of ranks."""
        own = [name for name, each in self.model.named_modules() if model_contract.normalises_own_samples(each)]
        if self.trainer.world_size > 1 and own:
            rank_zero_warn(
                f"{names(own[:4])}{_more(own)} of the model normalises over each rank's own samples, so that "
                "results depend on the number of ranks: add trainer.sync_batchnorm=true on GPUs, or use GroupNorm"
            )

    def forward(self, batch: Frame) -> dict[str, Any]:
        """Return the frame: the entries of the batch and those that the model computes from it."""
        entries = model_contract.entries_of(self.model, batch)
        if self.training not in self._checked_frames:  # a model may return other entries in training
            model_contract.check_frame(self.objective, self.model, batch, entries)
            self._checked_frames.add(self.training)
        return {**batch, **entries}

    def training_step(self, batch: Frame, batch_idx: int) -> dict[str, Any]:
        """Return the objective's value as "loss", and the "frame" for callbacks that draw it."""
        frame = self(batch)
        self.objective.advance(self.global_step, self.current_epoch + self._part_of_epoch(batch_idx))
        total: Tensor = self.objective(frame)
        if not total.requires_grad:
            terms = names(name for name, _ in self.objective.named_losses())
            raise InputError(f"{terms} has no gradient: add a loss to learn from, as in loss=[cross_entropy,...]")
        return {"loss": total, "frame": frame}

    def on_after_backward(self) -> None:
        """Warn once of parameters without a gradient: metrics of their outputs would describe initial weights."""
        if not self._checked_gradients:
            untrained = [name for name, p in self.model.named_parameters() if p.requires_grad and p.grad is None]
            if untrained:
                rank_zero_warn(
                    f"no loss trains {names(untrained[:4])}{_more(untrained)} of the model: add a loss that reads what "
                    "they give, or leave out the metric or callback that does. On several ranks torch refuses such "
                    "parameters"
                )
        self._checked_gradients = True

    def validation_step(self, batch: Frame, batch_idx: int) -> dict[str, Any]:
        """Evaluate the objective and the metrics, and return the frame, for callbacks that draw it."""
        return self._evaluate(batch)

    def test_step(self, batch: Frame, batch_idx: int) -> dict[str, Any]:
        """Evaluate the objective and the metrics, and return the frame, for callbacks that draw it."""
        return self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the validation split."""
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the test split."""
        self._log_metrics("test")

    def configure_optimizers(self) -> Any:
        """Return the optimiser and the scheduler, if any; an `InputError` names the one that refuses its arguments."""
        optimizer = reconfigured.make("optimizer", self.optimizer, self._trained())
        if self.scheduler is None:
            return optimizer
        scheduler = reconfigured.make("scheduler", self.scheduler, optimizer)
        if isinstance(scheduler, ReduceLROnPlateau):
            raise InputError("scheduler: wanted one that counts epochs, found ReduceLROnPlateau; use scheduler=cosine")
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record which optimiser and scheduler the checkpoint belongs to."""
        checkpoint[reconfigured.RECORD] = self._optimisation()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse other terms and weights; make the configured optimiser and scheduler hold where they differ."""
        if self.strict_loading and self._is_whole(checkpoint):
            self.objective.check_state(checkpoint["state_dict"], "objective.")
            checkpoints.check_weights(checkpoint["state_dict"], self)
        fits = self._fabric is None and self._trainer is not None and self._trainer.state.fn == "fit"
        if fits and self._is_whole(checkpoint):
            restored.check(checkpoint, self.trainer, len(self._trained()))
        changed = repr(checkpoint.get(reconfigured.RECORD)) != repr(self._optimisation())  # anything may be there
        if fits and changed:
            reconfigured.restart(checkpoint, self.optimizer, self.scheduler, self._trained())
        elif fits:
            restored.check_options(checkpoint, self.optimizer, self.scheduler, self._trained())
        if fits and not (changed and not checkpoint["optimizer_states"][0]["state"]):  # restart has warned of that
            restored.check_accumulated(checkpoint, self.optimizer, dict(self.named_parameters()))

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights; a `StateError` names those that do not fit."""
        try:
            return super().load_state_dict(state_dict, strict, assign)
        except (RuntimeError, TypeError, AttributeError) as error:
            found = " ".join(str(error).split()).partition("Learner: ")
            raise StateError(
                f"state_dict: wanted the weights of this model and objective, found {found[2] or found[0]}"
            ) from error

    @staticmethod
    def _is_whole(checkpoint: Mapping[str, Any]) -> bool:
        """Return whether a checkpoint holds its tensors, which those of FSDP hold in other files."""
        return "state_dict" in checkpoint

    def _part_of_epoch(self, batch_idx: int) -> float:
        """Return how much of the epoch is done before a batch; 0 if nobody knows how many batches it has."""
        batches = self.trainer.num_training_batches
        return batch_idx / batches if math.isfinite(batches) and batches else 0.0

    def _trained(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def _optimisation(self) -> list[Any]:
        return [reconfigured.described(self.optimizer), reconfigured.described(self.scheduler)]

    def _evaluate(self, batch: Frame) -> dict[str, Any]:
        frame: dict[str, Any] = self(batch)
        self.objective(frame)
        for name, metric in self.metrics.items():
            reads = metric["reads"]
            missing = [entry for entry in reads if entry not in frame]
            if missing:
                raise InputError(
                    f"metric {name!r} reads {names(missing)}, but the frame holds only {names(sorted(frame))}"
                )
            if len(frame[reads[0]]):  # torchmetrics refuses the empty batch of a rank without samples
                metric["metric"].update(*[frame[entry] for entry in reads])
        return frame

    def _log_metrics(self, stage: str) -> None:
        for name, metric in self.metrics.items():
            result = metric["metric"].compute()
            metric["metric"].reset()
            scalars = result if isinstance(result, dict) else {name: result}
            for key, value in scalars.items():
                self.log(f"{stage}/{key}", torch.as_tensor(value, dtype=torch.float32), logger=False, prog_bar=True)


def _more(found: list[str]) -> str:
    return f" and {len(found) - 4} more" if len(found) > 4 else ""
