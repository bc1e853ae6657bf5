"""`LossMonitor` logs the losses of foreign LightningModules, of `pytorch_lightning` and of `lightning.pytorch`."""

import importlib
import math
from collections import UserDict
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from curves import read
from torch.utils.data import DataLoader, TensorDataset
from trainers import tiny_trainer

from lossframe import InputError, LossMonitor, NonFiniteError, Objective, configs, losses
from lossframe.callbacks.monitor.batch_size import batch_size
from lossframe.callbacks.monitor.discovery import find_sources, name_of
from lossframe.losses import CrossEntropyLoss, MSELoss


def classifier(pl: ModuleType, **losses: torch.nn.Module) -> Any:
    class Classifier(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 3)
            for name, loss in losses.items():
                setattr(self, name, loss)

        def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
            logits = self.layer(batch[0])
            return sum(getattr(self, name)(logits, batch[1]) for name in losses)

        def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
            self.training_step(batch, batch_idx)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Classifier()


def fit(
    pl: ModuleType,
    module: Any,
    folder: Path,
    monitor: LossMonitor,
    target: torch.Tensor,
    more: Any = (),
    **options: Any,
) -> Any:
    inputs = torch.randn(len(target), 4, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(inputs, target), batch_size=8)
    trainer = tiny_trainer(folder, [monitor, *more], pl, max_epochs=2, **options)
    trainer.fit(module, loader, loader)
    return trainer


@pytest.mark.parametrize("package", ["pytorch_lightning", "lightning.pytorch"])
def test_losses_of_a_foreign_module_have_curves(package: str, tmp_path: Path) -> None:
    pl = importlib.import_module(package)
    module = classifier(pl, criterion=CrossEntropyLoss(log_std=True, log_min=True, log_max=True))
    monitor = LossMonitor(log_every=2)
    trainer = fit(pl, module, tmp_path, monitor, torch.arange(20) % 3)
    for stage, steps in (("train", [16, 20, 28, 40]), ("val", [20, 40])):
        curves = read(tmp_path / stage)
        for suffix in ("", "_std", "_min", "_max"):
            assert [step for step, _ in curves[f"loss/cross_entropy{suffix}"]] == steps
    assert trainer.callback_metrics["val/loss/cross_entropy"] == pytest.approx(curves["loss/cross_entropy"][-1][1])
    assert monitor.samples_seen == 40


def test_two_losses_of_one_class_are_named_by_their_attributes(tmp_path: Path) -> None:
    pl = importlib.import_module("pytorch_lightning")
    module = classifier(pl, shape=MSELoss(), colour=MSELoss())
    fit(pl, module, tmp_path, LossMonitor(), torch.zeros(20, 3))
    assert {tag for tag in read(tmp_path / "val") if tag.startswith("loss/")} == {"loss/shape", "loss/colour"}


@pytest.mark.parametrize("attribute", ["criterion", "mse"])
def test_loss_next_to_an_objective_does_not_take_the_name_of_its_term(attribute: str) -> None:
    module = torch.nn.Module()
    module.objective = Objective({"mse": MSELoss()})
    setattr(module, attribute, MSELoss())
    sources = find_sources(module)
    free = {name for name, source in sources.items() if source.loss is getattr(module, attribute)}
    assert sources["mse"].loss is module.objective.losses["mse"]
    assert free == {"criterion" if attribute == "criterion" else "mse.mse"}


def test_single_loss_of_its_class_is_named_as_its_configuration() -> None:
    assert {kind: name_of(losses.__dict__[kind].__new__(losses.__dict__[kind])) for kind in configs.losses()} == (
        configs.losses()
    )
    assert name_of(type("LogCoshLoss", (MSELoss.__base__,), {"loss": MSELoss.loss})()) == "log_cosh"


@pytest.mark.parametrize("hook", ["setup", "configure_model"])
def test_losses_made_in_a_hook_are_found(hook: str, tmp_path: Path) -> None:
    pl = importlib.import_module("pytorch_lightning")
    module = classifier(pl, criterion=CrossEntropyLoss())
    del module.criterion
    setattr(module, hook, lambda **_: setattr(module, "criterion", CrossEntropyLoss()))
    fit(pl, module, tmp_path, LossMonitor(), torch.arange(20) % 3)
    assert [step for step, _ in read(tmp_path / "train")["loss/cross_entropy"]] == [20, 40]
    assert [step for step, _ in read(tmp_path / "val")["loss/cross_entropy"]] == [20, 40]


def test_module_without_losses_gets_a_warning(tmp_path: Path) -> None:
    pl = importlib.import_module("pytorch_lightning")
    module = classifier(pl)
    module.training_step = lambda batch, batch_idx: module.layer(batch[0]).sum()  # type: ignore[method-assign]
    with pytest.warns(UserWarning, match="LossMonitor found no Loss in Classifier"):
        fit(pl, module, tmp_path, LossMonitor(), torch.arange(8), limit_val_batches=0)


def test_training_metrics_keep_training_values_after_a_validation(tmp_path: Path) -> None:
    pl = importlib.import_module("pytorch_lightning")
    published = []

    class Published(pl.Callback):  # type: ignore[name-defined,misc]
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            published.append(trainer.callback_metrics["train/loss/cross_entropy"].item())

    monitor = LossMonitor(log_every=1)  # so that an epoch's end finds nothing new
    fit(pl, classifier(pl, criterion=CrossEntropyLoss()), tmp_path, monitor, torch.arange(20) % 3, more=[Published()])
    curve = dict(read(tmp_path / "train")["loss/cross_entropy"])
    assert published == pytest.approx([curve[20], curve[40]])


def test_validation_alone_ignores_values_from_before(tmp_path: Path) -> None:
    pl = importlib.import_module("pytorch_lightning")
    module = classifier(pl, criterion=CrossEntropyLoss())
    batch = [torch.zeros(4, 4), torch.zeros(4, dtype=torch.long)]
    module.criterion(torch.full((1, 3), 50.0) * torch.eye(3)[:1], torch.tensor([1]))  # of 50, and left over
    trainer = tiny_trainer(tmp_path, [LossMonitor()], pl, logger=False, enable_checkpointing=False)
    trainer.validate(module, DataLoader([batch], batch_size=None), verbose=False)
    alone = CrossEntropyLoss()(module.layer(batch[0]), batch[1]).item()
    assert trainer.callback_metrics["val/loss/cross_entropy"].item() == pytest.approx(alone)


@dataclass
class Sample:
    name: Any
    inputs: Any = None


class Graphs:
    """As a batch of torch_geometric, whose tensors have a row for each node."""

    num_graphs = 7
    x = torch.ones(20, 2)


@pytest.mark.parametrize(
    "batch", [torch.ones(7, 2), [torch.ones(()), torch.ones(7)], {"a": "x", "b": torch.ones(7)}, {"a": [torch.ones(7)]},
              UserDict(a=torch.ones(7)), (UserDict(a=1), {"b": (torch.ones(7),)}),
              Sample("x", torch.ones(7, 2)), [Sample(Sample(["a"], {"b": torch.ones(7)}))], ["x"] * 7, ("x",) * 7,
              {"a": "x", "b": ["x"] * 7}, Sample(["x"] * 7), Graphs(), (["x", "y"], Graphs()), Sample(Graphs()),
              ([torch.ones(3, 8, 8)] * 7, [{"boxes": torch.ones(2, 4)}] * 7), ([torch.ones(3, 8, 8)] * 7, [0] * 7),
              ([torch.ones(3, 8, 8)] * 7, (torch.tensor(1),) * 7, ("name",) * 7),
              {"images": [torch.ones(3, 8, 8)] * 7, "labels": torch.ones(7)}, [[torch.ones(7, 2)] * 2, torch.ones(7)],
              [[torch.ones(7, 2)] * 2, [torch.ones(7), torch.ones(7)]], {"views": [torch.ones(7, 2)] * 2}],
)  # fmt: skip
def test_batch_size_is_found_in_batches_of_any_structure(batch: Any) -> None:
    assert batch_size(batch) == 7


@pytest.mark.parametrize("batch", ["words", 7, None, {"a": 1}, Sample("x"), torch.ones(())])
def test_batch_of_unknown_size_raises_an_error_with_the_remedy(batch: Any) -> None:
    with pytest.raises(InputError, match=rf"found {type(batch).__name__}; .* LossMonitor\(batch_size="):
        batch_size(batch)


@pytest.mark.parametrize("kind", ["texts", "time first"])
def test_batch_without_a_tensor_of_samples_trains(kind: str, tmp_path: Path) -> None:
    pl = importlib.import_module("pytorch_lightning")
    module = classifier(pl, criterion=MSELoss())
    step = type(module).training_step
    batches = [["a", "bb", "ccc"]] * 4 if kind == "texts" else [torch.ones(5, 3)] * 4

    def tokenised(batch: Any, batch_idx: int) -> Any:
        lengths = torch.tensor([[len(text)] * 4 for text in batch]).float() if kind == "texts" else batch.mT[:, :4]
        return step(module, [lengths, torch.zeros(3, 3)], batch_idx)

    module.training_step = tokenised
    monitor = LossMonitor(log_every=1) if kind == "texts" else LossMonitor(batch_size=lambda batch: batch.shape[1])
    trainer = tiny_trainer(tmp_path, [monitor], pl, logger=False, enable_checkpointing=False)
    loader = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
    trainer.fit(module, loader, loader)
    assert monitor.samples_seen == 12


def test_nan_raises_an_error_that_names_the_term(tmp_path: Path) -> None:
    pl = importlib.import_module("pytorch_lightning")
    module = classifier(pl, criterion=MSELoss())
    torch.nn.init.constant_(module.layer.weight, math.nan)
    with pytest.raises(NonFiniteError, match=r"mse \(MSELoss\): 24 of 24 values were not finite"):
        fit(pl, module, tmp_path, LossMonitor(log_every=1), torch.zeros(20, 3), num_sanity_val_steps=0)
