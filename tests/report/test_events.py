"""Curves and histograms read from event files, and how they are thinned for a page."""

from pathlib import Path

import numpy as np
import pytest
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from torch.utils.tensorboard import SummaryWriter

from lossframe.report.events import Curve, read_stage
from lossframe.report.scales import BUCKETS, banded, thin


def test_resumed_run_is_read_without_its_purged_points(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path), filename_suffix=".0") as writer:
        for step in (10, 20, 30):
            writer.add_scalar("loss/a", float(step), step)
    with SummaryWriter(str(tmp_path), purge_step=20, filename_suffix=".1") as writer:
        writer.add_scalar("loss/a", 5.0, 25)
    assert read_stage(tmp_path).scalars["loss/a"].values.tolist() == [10.0, 5.0]


def test_both_formats_of_event_files_are_read(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=500)
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("old", 1.5, 1)
        writer.add_scalar("new", 1.5, 1, new_style=True)
        writer.add_histogram("values/old", values, 1)
        writer._get_file_writer().add_summary(histogram_pb("values/new", values), 1)
    stage = read_stage(tmp_path)
    assert stage.scalars["old"].last == stage.scalars["new"].last == 1.5
    for (one,) in stage.histograms.values():
        assert one.counts.sum() == 500
        assert one.left[one.counts > 0].min() == pytest.approx(values.min())
        assert one.right[one.counts > 0].max() == pytest.approx(values.max())
        below = one.counts[one.right <= 0].sum()
        assert below == pytest.approx((values <= 0).sum(), abs=60)


def test_thinning_keeps_extremes_and_means() -> None:
    values = np.random.default_rng(0).normal(size=100_001)
    values[77_777] = 1e6
    curve = Curve(np.arange(100_001.0), values)
    thinned = thin(curve)
    assert len(thinned.steps) == BUCKETS
    assert thinned.high.max() == 1e6
    assert thinned.low.min() == values.min()
    assert thinned.mean[0] == pytest.approx(values[: int(100_001 / BUCKETS)].mean())
    bands = banded({"mean": curve, "min": Curve(curve.steps, values - 1), "max": Curve(curve.steps, values + 1)})
    assert bands.outer[1].max() == 1e6 + 1
    assert bands.outer[0].min() == values.min() - 1
