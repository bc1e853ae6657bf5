"""`lossframe train` and `python train.py` compose, print help and completions, sweep, and start ranks."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT

from lossframe.__main__ import COMMANDS, main

Command = Callable[..., subprocess.CompletedProcess[str]]
MODULE, SCRIPT = ["-m", "lossframe", "train"], [str(ROOT / "train.py")]
LOSS = """
# @package _global_
loss: {mine: {_target_: lossframe.losses.MSELoss}}
weights: {mine: 2.0}
inputs: {mine: {prediction: features, target: features, weight: null}}
"""


def start(arguments: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with arguments in a folder, where this checkout's lossframe is importable."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_command_that_trains_nothing_does_not_import_torch(command: Command) -> None:
    spy = "import sys, runpy; sys.argv[:] = sys.argv[1:]\ntry: runpy.run_path(sys.argv[0], run_name='__main__')\n"
    spy += "finally: assert 'torch' not in sys.modules"
    for arguments in (["--cfg", "job", "--resolve"], ["--help"], ["loss=nope"]):
        result = subprocess.run(
            [sys.executable, "-c", spy, str(ROOT / "train.py"), *arguments],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert "AssertionError" not in result.stderr
        assert result.returncode == (1 if arguments == ["loss=nope"] else 0), result.stderr


def test_help_lists_every_choice_and_shows_the_chosen_config(command: Command) -> None:
    shown = command("loss=[triplet,huber]", "loss.huber.delta=0.125", "--help")
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    for group in {str(file.parent.relative_to(ROOT / "conf")) for file in (ROOT / "conf").glob("*/**/*.yaml")}:
        choices = ", ".join(sorted(file.stem for file in (ROOT / "conf" / group).glob("*.yaml")))
        assert (f"{group}: {choices}" in lines) == (not group.startswith("hydra/")), "Hydra lists its own elsewhere"
    assert "  huber:\n" in shown.stdout
    assert "    delta: 0.125\n" in shown.stdout


@pytest.mark.slow
def test_sweep_writes_one_directory_a_run(command: Command, tmp_path: Path) -> None:
    result = command("-m", "loss=triplet,contrastive", "trainer.max_epochs=1", "hydra.sweep.dir=sweep")
    assert result.returncode == 0, result.stderr
    assert {path.parent.name for path in (tmp_path / "sweep").glob("*/metrics.json")} == {"0_triplet", "1_contrastive"}


@pytest.mark.parametrize("program", [MODULE, SCRIPT], ids=["module", "script"])
@pytest.mark.parametrize("found_by", ["--config-dir=mine", "hydra.searchpath=[file://mine]"])
def test_choice_of_the_users_own_config_directory_is_composed(
    tmp_path: Path, program: list[str], found_by: str
) -> None:
    (tmp_path / "mine" / "loss").mkdir(parents=True)
    (tmp_path / "mine" / "loss" / "own.yaml").write_text(LOSS)
    shown = start([*program, found_by, "loss=own", "weights.mine=3", "--cfg", "job", "-p", "weights"], tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.splitlines()[-1] == "mine: 3"


@pytest.mark.slow
def test_command_in_a_changed_directory_starts_the_other_ranks(tmp_path: Path) -> None:
    options = ["trainer=ddp_cpu", "trainer.max_epochs=1", "hydra.run.dir=run", "hydra.job.chdir=true"]
    result = start([*MODULE, *options], tmp_path)
    assert result.returncode == 0, result.stderr
    assert "GLOBAL_RANK: 1, MEMBER: 2/2" in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("lossframe ", list(COMMANDS)),
        ("lossframe tr", list(COMMANDS)),
        ("lossframe train loss=binary", ["loss=binary_cross_entropy", "loss=binary_focal"]),
        ("lossframe evaluate RUN data=mni", ["data=mnist5k"]),
        ("lossframe losses x", []),
    ],
)
def test_completion_query_is_answered_for_the_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, completions: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["lossframe"])
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    main(["-sc", "query=bash"])
    assert sorted(capsys.readouterr().out.split()) == sorted(completions)


def test_script_answers_a_completion_query(tmp_path: Path) -> None:
    shown = start([*SCRIPT, "-sc", "query=bash"], tmp_path, COMP_LINE="python train.py loss=binary")
    assert shown.stdout.split() == ["loss=binary_cross_entropy", "loss=binary_focal"]


@pytest.mark.parametrize("arguments", [["-sc", "install=bash"], ["train", "-sc", "install=bash"]])
def test_installing_completion_prints_the_shells_rule(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/lossframe"])
    monkeypatch.delenv("COMP_LINE", raising=False)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    main(arguments)
    assert capsys.readouterr().out.endswith("hydra_bash_completion lossframe\n")


@pytest.mark.parametrize(("typed", "meant"), [("trian", "train"), ("loses", "losses"), ("reprot", "report")])
def test_misspelt_subcommand_is_answered_with_the_nearest(
    capsys: pytest.CaptureFixture[str], typed: str, meant: str
) -> None:
    assert main([typed, "loss=triplet"]) == 2
    wanted = f"wanted one of {', '.join(map(repr, COMMANDS))}"
    assert capsys.readouterr().err == f"error: lossframe {typed}: {wanted}. Did you mean {meant!r}?\n"
