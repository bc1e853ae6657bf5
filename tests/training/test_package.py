"""What people install: the wheel, and the README's two commands."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from lossframe import configs

sys.path.insert(0, str(ROOT / "scripts"))
import snippets

APP = """
import hydra, lossframe
from hydra.utils import instantiate
from lossframe import Objective

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg):
    objective = Objective(instantiate(cfg.loss), cfg.weights, cfg.inputs)
    print("TERMS", dict(objective.named_losses()), objective.weights, lossframe.__file__)

main()
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and install it into an empty directory."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], check=True, timeout=300)
    (wheel,) = folder.glob("lossframe-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True, timeout=120)
    return folder / "site"


def lossframe(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command in a folder."""
    return subprocess.run(
        [sys.executable, site / "bin" / "lossframe", *arguments],
        cwd=folder, env={"PYTHONPATH": str(site)}, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_installed_command_makes_a_project_that_trains_on_two_ranks_and_passes_its_tests(
    tmp_path: Path, site: Path
) -> None:
    assert lossframe(site, tmp_path, "init", "demo").returncode == 0
    demo = tmp_path / "demo"
    trained = lossframe(site, demo, "train", "trainer.max_epochs=1", "trainer=ddp_cpu", "run_dir=run")
    assert trained.returncode == 0, trained.stderr
    assert "configuration    conf/train.yaml, with the modules of this folder" in trained.stderr
    assert "GLOBAL_RANK: 1, MEMBER: 2/2" in trained.stderr
    assert "test/loss/log_cosh " in trained.stdout
    tests = [sys.executable, "-m", "pytest", "-q"]
    assert subprocess.run(tests, cwd=demo, env={"PYTHONPATH": str(site)}, check=False).returncode == 0
    composed_again = ["evaluate", "demo/run", "--out", "again.json", "log_every=5"]
    again = lossframe(site, tmp_path, *composed_again)  # finds the classes from outside
    assert again.returncode == 0, again.stderr
    metrics = [json.loads(path.read_text()) for path in (tmp_path / "again.json", demo / "run" / "metrics.json")]
    assert metrics[0].pop("checkpoint") == metrics[1].pop("checkpoint")
    tested = {name: value for name, value in metrics[1].items() if name.startswith("test/")}
    assert metrics[0] == pytest.approx(tested, rel=1e-5)
    assert "report.html" in lossframe(site, tmp_path, "report", "demo/run").stdout


@pytest.mark.slow
def test_installed_command_finds_its_own_configuration(tmp_path: Path, site: Path) -> None:
    assert f"file://{site}/lossframe/conf" in lossframe(site, tmp_path, "train", "--info", "searchpath").stdout
    assert "loss.triplet.margin=0.2" in lossframe(site, tmp_path, "losses", "triplet").stdout


@pytest.mark.slow
def test_wheel_serves_another_hydra_application(tmp_path: Path, site: Path) -> None:
    app = tmp_path / "app"
    (app / "conf").mkdir(parents=True)
    (app / "conf" / "config.yaml").write_text(snippets.marked("hydra"))
    (app / "app.py").write_text(APP)
    result = subprocess.run(
        [sys.executable, "app.py", "loss=[triplet]", "weights.triplet=3", "loss.triplet.margin=0.7"],
        cwd=app, env={"PYTHONPATH": str(site)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "BatchAllTripletLoss(margin=0.7" in result.stdout
    assert "{'triplet': 3.0}" in result.stdout
    assert str(site) in result.stdout


def test_readme_has_the_two_commands() -> None:
    assert "train.py loss=triplet" in snippets.marked("main")
    assert "-m pytest" in snippets.marked("tests")
    assert (ROOT / "docs" / "tensorboard.png").exists()


def test_checkout_finds_its_configuration_where_another_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        sys.modules, "lossframe.conf", None
    )  # as if only the package `lossframe` were imported from here
    assert {"balanced", "shuffled"} <= set(configs.choices("data/sampler"))
