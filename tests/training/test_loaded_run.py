"""A trained run is loaded, evaluated and used for predictions from its folder alone."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT

from lossframe import InputError, Learner, load_run
from lossframe.__main__ import main
from lossframe.training.configuration import project

OPTIONS = [
    "loss=[cross_entropy,center,l1_l2_penalty]", "+loss@wide=triplet", "wide.weights.triplet=0",
    "metrics=classification", "trainer.precision=64-true", "trainer.max_epochs=1", "trainer.enable_progress_bar=false",
    "trainer.limit_test_batches=5", "hydra/job_logging=disabled",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a run whose checkpoint holds a buffer, a penalty, a renamed term and a term without weight."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["lossframe"])
        assert main(["train", *OPTIONS, f"run_dir={folder}"]) == 0
    return folder


def metrics(file: Path) -> dict[str, float]:
    return {name: value for name, value in json.loads(file.read_text()).items() if name.startswith("test/")}


def table(file: Path) -> dict[str, np.ndarray]:
    with file.open() as opened:
        rows = list(csv.DictReader(opened))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def test_loaded_run_gives_the_metrics_of_the_run_to_the_last_digit(trained: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(trained, tmp_path / "moved")
    before = torch.get_rng_state()
    loaded = load_run(moved)
    assert torch.equal(before, torch.get_rng_state())
    assert loaded.evaluate("test") == metrics(trained / "metrics.json")
    assert not loaded.model.training
    assert loaded.config["weights"]["wide"] == 0
    assert set(loaded.evaluate("val")) == {
        name.replace("test/", "val/", 1) for name in metrics(trained / "metrics.json")
    }
    assert {path.name for path in moved.iterdir()} == {path.name for path in trained.iterdir()}


def test_checkpoint_of_a_run_is_loaded_by_its_path_alone(trained: Path) -> None:
    file = trained / "checkpoints" / "last.ckpt"
    learner = Learner.load_from_checkpoint(file)
    saved = torch.load(file, weights_only=True)["state_dict"]
    assert torch.equal(learner.objective.losses["center"].centers, saved["objective.losses.center.centers"])


def test_folder_without_a_usable_checkpoint_is_an_error_of_one_line(trained: Path, tmp_path: Path) -> None:
    def refused(folder: Path, checkpoint: str = "best") -> str:
        with pytest.raises(InputError) as error:
            load_run(folder, checkpoint)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "found none" in refused(tmp_path / "nope")
    assert "a folder of runs; choose one, as 'one'" in refused(trained.parent)
    broken = shutil.copytree(trained, tmp_path / "broken")
    best = broken / "checkpoints" / "best.ckpt"
    best.write_bytes(best.read_bytes()[:5000])
    assert "truncated or foreign file; take another one of its folder, 'last.ckpt'" in refused(broken)
    best.unlink()
    assert "found only 'last'" in refused(broken)
    (broken / "checkpoints" / "last.ckpt").unlink()
    assert "none yet" in refused(broken)
    shutil.copy(trained / "checkpoints" / "best.ckpt", best)
    resolved = broken / "resolved.yaml"
    resolved.write_text(resolved.read_text().replace("lossframe.models.ConvEmbedder", "gone.Model"))
    assert "model._target_=gone.Model cannot be imported" in refused(broken)


def test_evaluation_repeats_the_test_and_refuses_data_of_other_shapes(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(trained), "--out", str(tmp_path / "m.json"), "callbacks.monitor.log_every=3"]) == 0
    printed = capsys.readouterr()
    assert metrics(tmp_path / "m.json") == metrics(trained / "metrics.json")
    assert "test/accuracy  " in printed.out
    assert "trained on" not in printed.err
    assert main(["evaluate", str(trained), "data.seed=5", "data.batch_size=200", "--checkpoint", "last"]) == 0
    assert "may have been trained on some" in capsys.readouterr().err
    for wrong, message in (
        (
            ["data=mnist5k"],
            "data.image_shape=[1,28,28]: wanted [1,8,8], as the run's model.image_shape",
        ),
        (["model.width=5"], "model.width=5: wanted 32"),
        (["data=nope"], "data=nope: wanted one of"),
        (["--split", "val", "nonsense"], "nonsense: wanted GROUP=CHOICE"),
    ):
        assert main(["evaluate", str(trained), *wrong]) == 2
        assert message in capsys.readouterr().err


def test_prediction_of_two_ranks_is_that_of_one(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "one.csv"
    chosen = "labels,logits,loss/cross_entropy,loss/wide"
    arguments = ["predict", str(trained), "--split", "all", "--columns", chosen]
    assert main([*arguments, "--out", str(out)]) == 0
    told = capsys.readouterr().err
    assert "loss/wide of a sample depends on the other samples" in told
    assert "loss/l1_l2_penalty is left out" in told
    one = table(out)
    assert one["index"].tolist() == list(range(1797))
    logits = torch.from_numpy(np.stack([one[f"logits_{k}"] for k in range(10)], axis=1))
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(one["labels"]).long(), reduction="none")
    assert one["loss/cross_entropy"] == pytest.approx(expected.numpy())
    assert main([*arguments, "--out", str(out)]) == 2
    assert "replace it by --force" in capsys.readouterr().err
    command = [sys.executable, "-m", "lossframe", *arguments, "--out", "two.csv", "trainer=ddp_cpu"]
    subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=True, timeout=200, capture_output=True)
    two = table(tmp_path / "two.csv")
    assert list(two) == list(one)
    for name, column in one.items():
        assert two[name] == pytest.approx(column, rel=1e-9, abs=1e-12), name


def test_prediction_refuses_files_that_it_cannot_write(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for out, columns, message in (
        ("rows.txt", "", "wanted FILE.csv or FILE.parquet"),
        (str(trained / "nope" / "rows.csv"), "", "wanted a file in a folder that is there"),
        (str(trained.parent / "rows.csv"), "lables", "Did you mean 'labels'?"),
    ):
        assert main(["predict", str(trained), "--out", out, "--columns", columns]) == 2
        assert message in capsys.readouterr().err


def test_init_refuses_a_name_that_cannot_be_a_new_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for name, message in ((".", "is not empty"), ("file", "File exists"), ("x" * 300, "File name too long")):
        assert main(["init", str(tmp_path / name)]) == 2
        assert message in capsys.readouterr().err


def test_explicit_configuration_wins_over_that_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project.make(tmp_path / "demo")
    monkeypatch.chdir(tmp_path / "demo")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", "")
    assert project.primary(["seed=2"]) == [f"--config-path={tmp_path}/demo/conf", "seed=2"]
    assert sys.path[0] == str(tmp_path / "demo")
    for given in (["--config-dir=other"], ["-cp", "other"], ["ckpt=runs/x/checkpoints/last.ckpt"]):
        assert project.primary(given) == given
    (tmp_path / "demo" / "lossframe").mkdir()
    (tmp_path / "demo" / "lossframe" / "__init__.py").touch()
    assert project.primary(["seed=2"]) == ["seed=2"], "a checkout of lossframe"
