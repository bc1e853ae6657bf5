"""The report on runs shows the data of their event files, compares runs, and names what is missing."""

import copy
import html
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from curves import read
from synthetic import CONFIG, write_run
from torch.utils.tensorboard import SummaryWriter

from lossframe.__main__ import main
from lossframe.report.comparison import comparison
from lossframe.report.config import differences
from lossframe.report.document import Table
from lossframe.report.events import read_stage
from lossframe.report.runs import find_runs, read_run
from lossframe.report.scales import extent, strip

STAGES = ("train", "val", "test")


def configured(**changes: Any) -> dict[str, Any]:
    """Return the synthetic run's configuration with other parameters of its triplet term."""
    config = copy.deepcopy(CONFIG)
    config["loss"]["triplet"] |= changes
    return config


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of different margins, and one that never wrote a point; reported on."""
    folder = tmp_path_factory.mktemp("sweep")
    for number, margin in ((2, 0.2), (10, 0.7)):
        write_run(folder / f"{number}_triplet", seed=number, points=12, config=configured(margin=margin))
    (folder / "11_failed" / ".hydra").mkdir(parents=True)
    (folder / "11_failed" / ".hydra" / "config.yaml").write_text("seed: 1\n")
    assert main(["report", str(folder)]) == 0
    return folder


def shown(page: str) -> dict[str, Any]:
    """Return the data of a page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def cells(table: Table) -> list[dict[str, Any]]:
    """Return the rows of a table by the names of its columns."""
    return [dict(zip(table.head, row, strict=True)) for row in table.rows]


def table_of(sweep: Path) -> list[dict[str, Any]]:
    """Return the comparison's table."""
    runs = [read_run(folder, folder.name) for folder in find_runs([sweep])]
    return cells(next(block for block in comparison(runs).blocks if isinstance(block, Table)))


def test_page_holds_the_final_values_of_all_event_files(sweep: Path) -> None:
    data = shown((sweep / "report.html").read_text())
    assert list(data) == ["2_triplet", "10_triplet"]
    for run, stages in data.items():
        for stage in STAGES:
            curves = read(sweep / run / stage)
            assert stages[stage] == {tag: curve[-1][1] for tag, curve in curves.items()}


def test_tables_of_a_run_show_its_final_values(sweep: Path) -> None:
    page = (sweep / "report.html").read_text()
    for stage in STAGES:
        for tag, curve in read(sweep / "2_triplet" / stage).items():
            if tag.startswith("loss/triplet") or tag == "precision_at_1":
                value = curve[-1][1]
                assert f'title="{value!r}">{value:.4g}</td>' in page


def test_comparison_shows_differing_options_and_marks_the_best(sweep: Path) -> None:
    rows = table_of(sweep)
    assert [row["run"].text for row in rows] == ["2_triplet", "10_triplet"]
    assert [row["loss.triplet.margin"].text for row in rows] == ["0.2", "0.7"]
    for stage in ("val", "test"):
        values = {folder: read(sweep / folder / stage) for folder in ("2_triplet", "10_triplet")}
        for tag, best in (("precision_at_1", max), ("loss/center", min)):
            last = [curves[tag][-1][1] for curves in values.values()]
            assert [row[f"{stage} {tag}"].exact for row in rows] == [repr(value) for value in last]
            assert [row[f"{stage} {tag}"].best for row in rows] == [value == best(last) for value in last]


def test_loss_with_different_parameters_has_no_best(sweep: Path) -> None:
    assert not any(row["val loss/triplet"].best for row in table_of(sweep))


def test_configurations_differ_in_terms_targets_and_shared_keys() -> None:
    a = {"loss": {"a": {"margin": 1}}, "scheduler": None, "data": {"_target_": "x.A", "width": 3}}
    b = {"loss": {"b": {"scale": 2}}, "scheduler": {"_target_": "y.Step", "gamma": 2}, "data": {"_target_": "x.B"}}
    assert differences([a, b]) == {"losses": ["a", "b"], "data": ["A", "B"], "scheduler": [None, "Step"]}
    assert differences([a, a]) == {}


def test_folder_without_event_files_is_named(sweep: Path) -> None:
    assert "11_failed is left out: it has no event files" in (sweep / "report.html").read_text()


def test_images_and_hard_samples_are_shown(sweep: Path) -> None:
    page = (sweep / "report.html").read_text()
    for tag in ("hard/triplet", "pictures/confusion", "pictures/retrieval"):
        assert f"{tag}, val, after 6,000 samples" in page
    assert "hard/val_triplet.csv: the first 20 of 24" in page
    assert "hard/val_triplet_often.csv" in page


def test_markup_in_names_and_values_is_escaped(sweep: Path, tmp_path: Path) -> None:
    assert "<b>1</b>" not in (sweep / "report.html").read_text()  # a prediction in the list of hard samples
    evil = "</script><script>alert(1)</script>"
    run = tmp_path / "<i>run"
    with SummaryWriter(str(run / "val")) as writer:
        writer.add_scalar(f"$x_{evil}", 1.0, 1)
    (run / "resolved.yaml").write_text(json.dumps(configured(distance=evil)))
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "<i>run" not in page
    assert "<script>" not in page
    assert html.escape(evil) in page
    assert f"$x_{evil}" in shown(page)["<i>run"]["val"]


def test_run_of_another_project_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "version_0"
    for stage in ("train", "val"):
        with SummaryWriter(str(folder / stage)) as writer:
            writer.add_scalar("loss/mse", 0.25, 10)
    with SummaryWriter(str(folder)) as writer:
        writer.add_scalar("val/accuracy", 0.5, 3)
    (folder / "hparams.yaml").write_text("model: !!python/object:some.Model {}\n")
    output = tmp_path / "out.html"
    assert main(["report", str(tmp_path), "--output", str(output)]) == 0
    assert str(output) in capsys.readouterr().out
    assert shown(output.read_text())["version_0"]["train"] == {"loss/mse": 0.25}
    assert "Logged by others" in output.read_text()


def test_complete_run_has_no_notes(sweep: Path) -> None:
    assert [note for folder in find_runs([sweep]) for note in read_run(folder, "").notes] == []


def test_strip_of_histograms_has_all_values_of_each_column(sweep: Path) -> None:
    histograms = read_stage(sweep / "2_triplet" / "train").histograms["values/triplet"]
    axis, low, high = extent(histograms)
    times, shares = strip(histograms, axis.grid(low, high, 90), columns=5)
    assert times.tolist() == [0, 1500, 3000, 4000, 5000, 6000]
    np.testing.assert_allclose(shares.sum(axis=0), 1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: None, "found no folder"),
        (lambda folder: (folder / "notes").mkdir(parents=True), "in train/, val/ or test/, or a folder of runs; found"),
        (lambda folder: SummaryWriter(str(folder / "other")).close(), "event files are only in"),
    ],
)
def test_folder_without_a_run_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], object], said: str
) -> None:
    make(tmp_path / "folder")
    assert main(["report", str(tmp_path / "folder")]) == 2
    assert said in capsys.readouterr().err


def test_output_in_a_missing_folder_is_an_error(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(sweep / "2_triplet"), "--output", str(sweep / "none" / "x.html")]) == 2
    assert "choose another --output" in capsys.readouterr().err


def test_missing_matplotlib_is_an_error_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("lossframe.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["report", "anything"]) == 2
    assert "found no matplotlib; install lossframe's extra 'report'" in capsys.readouterr().err


@pytest.mark.slow
def test_other_commands_do_not_load_the_report() -> None:
    code = "import sys; from lossframe.__main__ import main; main(['losses']); print('lossframe.report' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert result.stdout.splitlines()[-1] == "False"
