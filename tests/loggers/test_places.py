"""Everything that a run writes is in the directory and file system of its logger, under the logger's prefix."""

import csv
from pathlib import Path
from typing import Any

import fsspec
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from trainers import tiny_trainer

from lossframe import LossMonitor
from lossframe.callbacks.hparams import HParams
from lossframe.callbacks.images import ConfusionMatrix, EmbeddingProjector, HardSamples, RetrievalExamples
from lossframe.loggers.csv import ResumableCSVLogger
from lossframe.losses import CrossEntropyLoss

PICTURES = {"pictures/confusion", "pictures/retrieval", "hard/cross_entropy"}


class Classifier(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 3)
        self.criterion = CrossEntropyLoss(log_std=True, log_quantiles=True)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> dict[str, Any]:
        logits = self.layer(batch[0].flatten(1))
        self.log("mine", 1.0)
        loss = self.criterion(logits, batch[1])
        return {"loss": loss, "logits": logits, "embeddings": logits, "labels": batch[1], "image": batch[0]}

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> dict[str, Any]:
        return self.training_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def everything() -> list[Any]:
    """Return all callbacks that write files or event files."""
    pictures = [ConfusionMatrix(), RetrievalExamples(queries=3), EmbeddingProjector(every_n_epochs=1), HardSamples(k=3)]
    return [LossMonitor(log_every=2), HParams({"lr": 0.1}), *pictures]


def fit(loggers: list[Any], folder: Path, **options: Any) -> Any:
    data = TensorDataset(torch.randn(20, 1, 4, 4), torch.arange(20) % 3)
    loader = DataLoader(data, batch_size=4)
    options = {"logger": loggers, "enable_checkpointing": False, "callbacks": everything()} | options
    trainer = tiny_trainer(folder, num_sanity_val_steps=0, **options)
    trainer.fit(Classifier(), loader, loader)
    return trainer


def written(directory: str) -> set[str]:
    """Return the files below a directory or URL; an event file as `events`."""
    system, path = fsspec.core.url_to_fs(directory)
    found = [name.removeprefix(path.rstrip("/") + "/") for name in system.find(path)]
    return {name.partition("out.tfevents")[0].removesuffix(".") for name in found}


def events(directory: str) -> EventAccumulator:
    accumulator = EventAccumulator(directory)
    accumulator.Reload()
    return accumulator


OWN = {
    *(f"{stage}/events" for stage in ("train", "val")), "hard/train_cross_entropy.csv", "hard/val_cross_entropy.csv",
    "hard/train_cross_entropy_often.csv", "hard/val_cross_entropy_often.csv", "val/projector_config.pbtxt",
    *(f"val/00020/embeddings/{name}" for name in ("tensors.tsv", "metadata.tsv", "sprite.png")),
}  # fmt: skip


@pytest.mark.parametrize(
    ("system", "options", "directory"),
    [
        ("", {}, "lightning_logs/version_0"),
        ("", {"name": "", "version": ""}, ""),
        ("", {"name": None, "version": 3, "filename_suffix": ".mine"}, "version_3"),
        ("", {"name": "a", "version": "b", "sub_dir": "c/d"}, "a/b/c/d"),
        ("file://", {"name": "a", "version": 0, "sub_dir": "d"}, "a/version_0/d"),
        ("memory://", {"name": None}, "version_0"),
        ("memory://", {"version": "v", "sub_dir": "d"}, "lightning_logs/v/d"),
    ],
)
def test_files_are_in_the_directory_of_the_logger(
    system: str, options: dict[str, Any], directory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = f"{system}{tmp_path}/logs"
    table = ResumableCSVLogger(f"{system}{tmp_path}/rows", name=None, version="csv")
    fit([TensorBoardLogger(root, **options), table], tmp_path)
    place = f"{root}/{directory}".rstrip("/")
    assert written(place) >= OWN
    assert written(table.root_dir) == {"csv/metrics.csv", "csv/hparams.yaml"}
    rest = written(root) - {"/".join(filter(None, [directory, name])) for name in OWN}
    assert {Path(name).name for name in rest} <= {"events", "hparams.yaml"}, "only Lightning's own are left"
    here = {path.name for path in tmp_path.iterdir()}
    assert here == (set() if system == "memory://" else {"logs", "rows"})
    assert set(events(f"{place}/val").Tags()["images"]) == PICTURES


@pytest.mark.parametrize("prefix", ["", "mine"])
def test_prefix_of_the_logger_begins_all_tags(prefix: str, tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="", prefix=prefix)
    table = CSVLogger(tmp_path, prefix=prefix)
    fit([logger, table], tmp_path)
    begins = f"{prefix}-" if prefix else ""
    for stage in ("train", "val"):
        found = events(str(tmp_path / stage)).Tags()
        for kind in ("scalars", "images", "histograms"):
            assert found[kind] or (stage, kind) == ("train", "images")
            assert all(tag.startswith(begins) for tag in found[kind])
        assert f"{begins}loss/cross_entropy_std" in found["scalars"]
        assert f"{begins}values/cross_entropy" in found["histograms"]
    tags = events(str(tmp_path / "val")).Tags()
    assert {tag for tag in tags["images"] if "hard" in tag} == {f"{begins}hard/cross_entropy"}
    layouts = [events(str(tmp_path / stage)) for stage in ("train", "val")]
    (layout,) = (each.Tensors(tag) for each in layouts for tag in each.Tags()["tensors"] if "custom" in tag)
    assert f"{begins}loss/cross_entropy_p5".encode() in layout[0].tensor_proto.string_val[0]
    session = {tag for each in layouts for tag in each.summary_metadata if "hparams" in tag}
    assert session == {"_hparams_/session_start_info", "_hparams_/session_end_info"}
    assert f"{begins}embeddings" in (tmp_path / "val" / "projector_config.pbtxt").read_text()
    with Path(table.log_dir, "metrics.csv").open() as file:
        columns = next(csv.reader(file))
    assert all(name.startswith(begins) for name in columns if name != "step")
