"""The table of statistics: a row of it, and its option in a configuration, are all that a new statistic needs."""

import csv
import re
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import yaml
from conftest import ROOT
from curves import read
from torch import Tensor, nn
from torch.utils.data import DataLoader
from trainers import tiny_trainer

from lossframe import InputError, LossMonitor
from lossframe.loggers import tags
from lossframe.loggers.csv import ResumableCSVLogger
from lossframe.losses import MSELoss
from lossframe.losses.base.options import LossOptions, known_options
from lossframe.report import writing
from lossframe.statistics import series

NEW = series.Statistic("p99_9", series.quantile(0.999), "log_p99_9", from_histogram=True)


class Regressor(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.loss = MSELoss(log_p99_9=True)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        value: Tensor = self.loss(self.layer(batch), batch)
        return value

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def test_new_row_is_an_option_and_a_curve_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="has no option 'log_p99_9'"):
        MSELoss(log_p99_9=True)
    monkeypatch.setattr(series, "SERIES", (*series.SERIES, NEW))
    loggers = [
        pl.loggers.TensorBoardLogger(tmp_path, name="", version=""),
        ResumableCSVLogger(tmp_path, name="csv", version=""),
    ]
    trainer = tiny_trainer(tmp_path, [LossMonitor(log_every=2)], logger=loggers, max_epochs=3)
    trainer.fit(Regressor(), DataLoader(torch.randn(32, 1), batch_size=4))
    assert len(read(tmp_path / "train")["loss/mse_p99_9"]) == 12
    with (tmp_path / "csv" / "metrics.csv").open(newline="") as file:
        assert float(next(csv.DictReader(file))["train/loss/mse_p99_9"]) > 0
    assert tags.terms(read(tmp_path / "train")) == ["mse"]
    page = writing.write([tmp_path]).read_text()
    assert re.search(r"<th[^>]*>p99_9</th>", page)
    assert not re.search(r"<h\d[^>]*>[^<]*p99_9", page)  # no term of its own


def test_options_of_the_catalogue_are_those_of_the_table() -> None:
    configured = yaml.safe_load((ROOT / "conf" / "options" / "default.yaml").read_text())
    assert set(configured) == set(known_options()) == set(LossOptions.__annotations__)


def test_bands_are_made_of_statistics() -> None:
    assert {suffix for _, *suffixes in series.BANDS for suffix in suffixes} <= {"", *series.suffixes()}
