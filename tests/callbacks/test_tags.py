"""No two curves of a run share a tag: names that would are refused, or avoided where the author chose none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from test_discovery import called, module_of, names
from torch import Tensor, nn
from torch.utils.data import DataLoader
from trainers import tiny_trainer

from lossframe import InputError, Loss, LossMonitor, Objective, drain
from lossframe.callbacks.monitor.curves import curves_of
from lossframe.callbacks.monitor.discovery import find_sources
from lossframe.losses import L1Loss, MSELoss

ONE = torch.ones(3)


class GradientLoss(Loss):
    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).abs()


class TotalLoss(Loss):
    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).abs()


@pytest.mark.parametrize("kind", [GradientLoss, TotalLoss])
def test_loss_named_as_a_curve_of_the_monitor_has_curves(kind: type[Loss]) -> None:
    module = module_of(criterion=kind(), objective=Objective({"gradient": L1Loss(), "lr": L1Loss(), "share": L1Loss()}))
    found = names(module)
    assert len(found) == 4
    assert "total" not in found
    assert {"gradient", "lr", "share"} <= found


def curves(module: nn.Module) -> dict[str, float]:
    sources = find_sources(module)
    return curves_of(sources, drain({name: source.recorder for name, source in sources.items()}))


CLASHES: dict[str, Callable[[], nn.Module]] = {
    "the std of term 'b' .*and term 'b_std'": lambda: module_of(
        o=Objective({"b": MSELoss(log_std=True), "b_std": MSELoss()})
    ),
    "the max of objective 'o'.*term 'total_max'": lambda: module_of(o=Objective({"total_max": MSELoss(log_max=True)})),
    "the p5 of term 'b'.*term 'b_p5'": lambda: module_of(
        o=Objective({"b": MSELoss(log_quantiles=True), "b_p5": MSELoss()})
    ),
    "the min of 'x' of c .*'x_min' of c": lambda: module_of(c=called(MSELoss(log_min=True), x=1.0, x_min=2.0)),
    "several dataloaders and 'dataloader_idx_1' of c": lambda: module_of(c=called(MSELoss(), dataloader_idx_1=2.0)),
}


@pytest.mark.parametrize("message", CLASHES)
def test_two_curves_with_one_tag_raise_an_error_that_names_both(message: str) -> None:
    with pytest.raises(InputError, match=f"{message}.*would share the curve 'loss/.*': rename one of them"):
        curves(CLASHES[message]())


def test_tags_differ_where_names_are_merely_similar() -> None:
    objective = Objective({"b": MSELoss(), "b_std": MSELoss(log_std=True), "low_min": L1Loss()})
    objective({"prediction": ONE, "target": 0 * ONE})
    objective.log("loss", 3.0)
    objective.log("temperature", 2.0)
    module = module_of(o=objective, b_std_std=called(MSELoss(), b=1.0, b_std=7.0, total=4.0))
    found = curves(module)
    wanted = {"b": 1, "b_std": 1, "b_std_std": 0, "low_min": 1, "total": 3, "total_std": 0, "total/loss": 3,
              "total/temperature": 2, "mse": 1, "mse/b": 1, "mse/b_std": 7, "mse/total": 4}  # fmt: skip
    assert {tag.removeprefix("loss/"): value for tag, value in found.items() if tag.startswith("loss/")} == wanted


def test_free_loss_whose_name_is_a_statistic_is_named_by_its_path() -> None:
    class TermStd(Loss):
        def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
            return (prediction - target).abs()

    module = module_of(o=Objective({"term": MSELoss(log_std=True)}), criterion=TermStd())
    assert names(module) == {"term", "criterion"}


class Logging(pl.LightningModule):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))
        self.criterion = MSELoss()
        self.name = name

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.log(self.name, 1.0, logger=False)
        return self.criterion(self.gain * batch, 0 * batch)

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.training_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.parametrize("name", ["train/loss/mse", "val/loss/mse", "train/mine", "val/mse", "loss/mse"])
def test_curve_that_the_module_logs_itself_is_refused(name: str, tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, [LossMonitor(log_every=1)], logger=False, enable_checkpointing=False)
    loader = DataLoader([torch.ones(2)] * 2, batch_size=None)  # type: ignore[arg-type]
    if name.count("/") < 2:
        trainer.fit(Logging(name), loader, loader)
        return
    with pytest.raises(InputError, match=f"Logging.log and the LossMonitor would share the curve '{name}'"):
        trainer.fit(Logging(name), loader, loader)
