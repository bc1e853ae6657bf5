"""Checkpoints hold plain numbers, lists and tensors, so that `torch.load(weights_only=True)` reads them."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from trainers import tiny_trainer

from lossframe import Loss, LossMonitor, Objective
from lossframe.callbacks.checkpoint import MovableCheckpoint
from lossframe.callbacks.hparams import HParams
from lossframe.callbacks.images import ConfusionMatrix, EmbeddingProjector, HardSamples, RetrievalExamples
from lossframe.callbacks.progress_bar import ProgressBar
from lossframe.callbacks.rank_consistency import RankConsistency
from lossframe.callbacks.saving import Generators, LastCheckpoint
from lossframe.losses import BatchHardTripletLoss, CenterLoss, CrossEntropyLoss


class Samples(Dataset[dict[str, Any]]):
    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"index": f"sample {index}", "image": torch.randn(1, 4, 4), "labels": index % 3}


class Module(pl.LightningModule):
    def __init__(self, criterion: Loss, rate: float, objective: Objective, ignored: list[str]) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=ignored)
        self.layer = nn.Linear(16, 3)
        self.criterion = criterion
        self.objective = objective

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        logits = self.layer(batch["image"].flatten(1))
        loss = self.criterion(logits, batch["labels"])
        loss = loss + self.objective({"embeddings": logits, "features": logits, **batch})
        self.criterion.log("norm", logits.norm())
        return {
            "loss": loss,
            "logits": logits,
            "embeddings": logits,
            "labels": batch["labels"],
            "image": batch["image"],
        }

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        return self.training_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.1)


def saved(folder: Path, ignored: list[str]) -> list[Path]:
    """Train, and return checkpoints from the middle of an epoch and of a window, and from the end."""
    options = {"log_std": True, "log_quantiles": True}
    losses = {"center": CenterLoss(3, 3, **options), "triplet": BatchHardTripletLoss(**options)}
    module = Module(CrossEntropyLoss(**options), 0.1, Objective(losses), ignored)
    checkpoints = [
        MovableCheckpoint(folder / "steps", every_n_train_steps=3, save_top_k=-1),
        MovableCheckpoint(folder / "best", monitor="val/loss/cross_entropy", filename="best"),
    ]
    callbacks = [
        LossMonitor(log_every=2), HParams({"rate": 0.1}), ConfusionMatrix(), RetrievalExamples(queries=2),
        EmbeddingProjector(), HardSamples(k=3), RankConsistency({"rate": 0.1}), ProgressBar(), Generators(),
        *checkpoints, LastCheckpoint(folder / "last" / "last.ckpt"),
    ]  # fmt: skip
    loader = DataLoader(Samples(), batch_size=4)
    trainer = tiny_trainer(folder, callbacks, max_epochs=2, enable_progress_bar=True)
    trainer.fit(module, loader, loader)
    return sorted(folder.glob("*/*.ckpt"))


def test_checkpoint_of_losses_and_callbacks_loads_with_weights_only(tmp_path: Path) -> None:
    paths = saved(tmp_path, ignored=["criterion", "objective"])
    assert len(paths) == 6
    for path in paths:
        loaded = torch.load(path, weights_only=True)
        assert loaded["hyper_parameters"]["rate"] == 0.1
        assert {"LossMonitor", "HardSamples", "MovableCheckpoint"} <= {
            key.partition("{")[0] for key in loaded["callbacks"]
        }
        assert any(isinstance(entry, Tensor) for entry in loaded["state_dict"].values())


@pytest.mark.filterwarnings("ignore:Attribute '.*' is an instance of `nn.Module`")
def test_loss_among_saved_hyperparameters_is_the_only_obstacle(tmp_path: Path) -> None:
    path = saved(tmp_path, ignored=[])[0]
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(path, weights_only=True)
    loaded = torch.load(path, weights_only=False)
    del loaded["hyper_parameters"]
    torch.save(loaded, tmp_path / "without.pt")
    torch.load(tmp_path / "without.pt", weights_only=True)
