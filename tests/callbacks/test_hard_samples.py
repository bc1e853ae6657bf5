"""`HardSamples` records the samples with the highest values of each loss, the same ones on any number of ranks."""

import csv
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from plain_anchors import standing
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader
from trainers import tiny_trainer

from lossframe import LossMonitor
from lossframe.callbacks.images import HardSamples
from lossframe.callbacks.images.top_k import TopK, highest
from lossframe.callbacks.monitor.discovery import forget_samples
from lossframe.data import Diabetes, Digits
from lossframe.losses import BatchAllTripletLoss, MSELoss
from lossframe.losses.base.per_sample import PerSample
from lossframe.models import Mlp
from lossframe.objectives.objective import Objective
from lossframe.training.learner import Learner
from lossframe.training.run import run

Configure = Callable[..., DictConfig]
Command = Callable[..., subprocess.CompletedProcess[str]]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_highest_values_of_many_batches_are_kept_with_their_entries() -> None:
    values = torch.randn(90, generator=torch.Generator().manual_seed(0))
    values[17] = torch.nan
    hardest = TopK(5)
    for start in range(0, 90, 9):
        part = slice(start, start + 9)
        ids = torch.arange(90)[part]
        hardest.add(
            values[part], {"id": ids, "image": ids[:, None].float(), "text": [f"text {k}" for k in ids.tolist()]}
        )
    kept = highest(hardest.take(), 5)
    assert [row["id"] for row in kept] == values.argsort(descending=True)[:5].tolist()
    assert kept[0]["id"] == 17
    for row in kept:
        assert row["text"] == f"text {row['id']}"
        assert row["image"].tolist() == [row["id"]]
    assert hardest.take() == []


def test_names_of_the_data_are_listed_beside_the_ids(tmp_path: Path) -> None:
    class Named(Diabetes):
        sample_names = tuple(f"ward/{number}.txt" for number in range(442))

    module = Learner(Mlp(10, 1, heads=["prediction"]), Objective({"mse": MSELoss()}), torch.optim.Adam)
    callbacks = [LossMonitor(), HardSamples(k=3, folder=tmp_path)]
    tiny_trainer(tmp_path, callbacks).fit(module, datamodule=Named(batch_size=64))
    for name in ("train_mse", "val_mse", "val_mse_often"):
        listed = rows(tmp_path / f"{name}.csv")
        assert [row["name"] for row in listed] == [f"ward/{row['id']}.txt" for row in listed]
        assert len(listed) == 3


@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 0.0, 1.0, 1.0, 2.0, 1.0])])
def test_loss_keeps_one_value_per_sample_only_on_request(weight: torch.Tensor | None) -> None:
    triplet, mse = BatchAllTripletLoss(), MSELoss()
    embeddings = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    triplet(embeddings, labels, weight=weight)
    assert triplet.samples is None
    triplet.samples, mse.samples = PerSample(), PerSample()
    triplet(embeddings, labels, weight=weight)
    mse(embeddings, torch.zeros(6, 3), weight=weight)
    assert triplet.samples.values is not None
    assert mse.samples.values is not None
    kept = torch.ones(6) if weight is None else weight
    means, _ = standing(triplet, {"embeddings": embeddings[kept != 0], "labels": labels[kept != 0]})
    wanted = torch.zeros(6).masked_scatter(kept != 0, means.float()) * kept
    assert triplet.samples.values.tolist() == pytest.approx(wanted.tolist())
    assert mse.samples.values.tolist() == pytest.approx((kept * embeddings.square().mean(1)).tolist())
    forget_samples({"mse": mse})
    assert mse.samples.values is None


@pytest.mark.slow
def test_samples_without_ids_get_distinct_names_on_two_ranks(on_each_rank: Callable[..., None], tmp_path: Path) -> None:
    on_each_rank(
        2, "loss=cross_entropy", "callbacks=[default,hard_samples]", "callbacks.hard_samples.ids=none",
        "callbacks.hard_samples.k=400", "trainer.max_epochs=1", "hydra.run.dir=run",
    )  # fmt: skip
    names = [row["id"] for row in rows(tmp_path / "run" / "hard" / "val_cross_entropy.csv")]
    assert len(set(names)) == len(names) == 179, "each of the split"
    assert {name.split(":")[0] for name in names} == {"rank0", "rank1"}


def test_mislabelled_digits_are_among_the_hardest_samples(configure: Configure, tmp_path: Path) -> None:
    wrong = Digits(label_noise=0.02, seed=1)
    wrong.setup()
    planted = {str(name) for name in wrong.mislabelled.tolist()}
    assert len(planted) == 22
    shown = ["callbacks=[default,hard_samples]", "callbacks.hard_samples.k=44", "trainer.max_epochs=8"]
    run(
        configure(
            "loss=cross_entropy", "metrics=classification", "data.label_noise=0.02", "trainer.max_epochs=8", *shown
        )
    )
    hardest = rows(tmp_path / "hard" / "train_cross_entropy.csv")
    assert len(planted & {row["id"] for row in hardest}) / len(planted) >= 0.9  # recall at twice their number
    assert {"id", "target", "prediction", "value", "epochs"} == set(hardest[0])
    often = rows(tmp_path / "hard" / "train_cross_entropy_often.csv")
    assert int(often[0]["epochs"]) == 8
    board = EventAccumulator(str(tmp_path / "train"), size_guidance={"images": 0})
    board.Reload()
    assert len(board.Images("hard/cross_entropy")) == 8


def test_foreign_module_without_images_logs_a_text_table(tmp_path: Path) -> None:
    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)
            self.criterion = MSELoss()

        def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
            return self.criterion(self.layer(batch["inputs"])[:, 0], batch["labels"])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.0)

    inputs, labels = torch.randn(20, 2), torch.zeros(20)
    labels[13] = 100.0
    data = [{"inputs": inputs[k], "labels": labels[k], "words": f"word {k}"} for k in range(20)]
    callbacks = [LossMonitor(), HardSamples(k=3, text="words")]
    trainer = tiny_trainer(tmp_path, callbacks, enable_checkpointing=False)
    trainer.fit(Module(), DataLoader(data, batch_size=8))
    hardest = rows(tmp_path / "hard" / "train_mse.csv")
    assert (hardest[0]["id"], hardest[0]["text"], hardest[0]["target"]) == ("1:5", "word 13", "100.0")
    board = EventAccumulator(str(tmp_path / "train"))
    board.Reload()
    assert "hard/mse/text_summary" in board.Tags()["tensors"]
