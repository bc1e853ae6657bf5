"""Sweeps: failed and pruned jobs, their summary, checks of sweepers and launchers, ranks inside a launcher's worker."""

import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, open_dict

from lossframe import InputError
from lossframe.__main__ import main as lossframe
from lossframe.training import early_checks, sweep
from lossframe.training.checks import composed
from lossframe.training.cli import main

SMALL = ["trainer.max_epochs=2", "trainer.limit_train_batches=2", "trainer.enable_progress_bar=false"]
PRUNED = [
    "callbacks=[default,pruning]",
    "callbacks.pruning.pruner.n_startup_trials=1",
    "callbacks.pruning.pruner.n_warmup_steps=0",
]
SWEEPER = {"_target_": "x.OptunaSweeper", "direction": "maximize"}
LAUNCHER = "hydra_plugins.hydra_submitit_launcher.submitit_launcher."


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Sweep in this process over a good, a bad and an exploding learning rate, and return the folder and the error."""
    folder = tmp_path_factory.mktemp("swept")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["train.py"])
        patch.setenv("HYDRA_FULL_ERROR", "0")
        with pytest.raises(SystemExit) as caught:
            main(["-m", "optimizer.lr=1e-3,1e-6,1e30", "seed=1,2", "run_dir=all", *SMALL, *PRUNED])
    return folder / "all", str(caught.value.code)


def test_sweep_with_failed_jobs_runs_the_others_and_ends_in_one_line(swept: tuple[Path, str]) -> None:
    folder, error = swept
    assert error.startswith("error: train: triplet (BatchAllTripletLoss): 80 of 160 values were not finite")
    assert "\n" not in error
    assert len(list(folder.glob("*/metrics.json"))) == 4
    assert {file.parent.name for file in folder.glob("*/failed.txt")} == {"4_triplet", "5_triplet"}


def test_job_worse_than_others_is_pruned_and_tested(swept: tuple[Path, str]) -> None:
    folder, _ = swept
    assert {file.parent.name for file in folder.glob("*/pruned.txt")} == {"2_triplet", "3_triplet"}
    assert (folder / "2_triplet" / "pruned.txt").read_text().startswith("pruned at epoch 0, with val/precision_at_1 ")
    assert json.loads((folder / "2_triplet" / "metrics.json").read_text())["test/precision_at_1"] > 0


def test_report_prints_mean_over_seeds_best_first_without_matplotlib(
    swept: tuple[Path, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = swept
    monkeypatch.delitem(sys.modules, "lossframe.report.writing", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert lossframe(["report", str(folder)]) == 2
    out, err = capsys.readouterr()
    head, *rows = out.splitlines()
    assert head.split("  ")[0] == "optimizer.lr"
    assert [row.split()[0] for row in rows[:3]] == ["0.001", "1e-06", "1e+30"]
    scores = [json.loads((folder / f"{k}_triplet" / "metrics.json").read_text())["val/precision_at_1"] for k in (0, 1)]
    assert rows[0].split()[1:3] == [f"{sum(scores) / 2:.4g}", "+-"]
    assert [row.split("  ")[-1].strip() for row in rows[:3]] == ["2", "2", "0 of 2"]
    assert [row.partition(": ")[0] for row in rows[3:]] == [f"{k}_triplet" for k in range(2, 6)]
    assert rows[5].startswith(
        "4_triplet: failed: train: triplet (BatchAllTripletLoss): 80 of 160 values were not finite"
    )
    assert "found no matplotlib" in err


def test_sweep_into_a_folder_with_runs_is_refused(swept: tuple[Path, str]) -> None:
    with pytest.raises(InputError, match="wanted a folder without runs, found 6, as 0_triplet"):
        sweep.check_folder(swept[0])


def test_samples_try_each_choice_and_both_ends_of_an_interval() -> None:
    typed = ["a=interval(0.0,1.0)", "b=x,y", "c=int(interval(1,3))", "seed=1"]
    assert early_checks._samples(OverridesParser.create().parse_overrides(typed)) == [
        ["a=0.0", "b=x", "c=1", "seed=1"],
        ["a=0.999", "b=x", "c=1", "seed=1"],
        ["a=0.0", "b=y", "c=1", "seed=1"],
        ["a=0.0", "b=x", "c=3", "seed=1"],
    ]


def checked(config: DictConfig) -> None:
    sweep.check(config)
    composed.check(config)


@pytest.mark.parametrize(
    ("sweeper", "launcher", "overrides", "wanted"),
    [
        (SWEEPER, {}, [], None),
        (SWEEPER | {"direction": "minimize"}, {}, [], "add hydra.sweeper.direction=maximize"),
        (SWEEPER, {}, ["checkpoint_monitor.mode=min"], "add hydra.sweeper.direction=minimize"),
        (SWEEPER | {"direction": ["maximize", "minimize"]}, {}, [], "add hydra.sweeper.direction=maximize"),
        ({}, {"_target_": f"{LAUNCHER}LocalLauncher", "tasks_per_node": 2}, [], "wanted 1 of submitit_local"),
        ({}, {"_target_": f"{LAUNCHER}SlurmLauncher", "nodes": 2}, [], "trainer.num_nodes=1"),
        ({}, {"_target_": f"{LAUNCHER}SlurmLauncher", "tasks_per_node": 2}, [], "as many as trainer.devices=1"),
        ({}, {"_target_": f"{LAUNCHER}SlurmLauncher", "tasks_per_node": 2}, ["trainer.devices=2"], None),
        ({}, {"_target_": f"{LAUNCHER}SlurmLauncher"}, ["trainer.devices=2"], None),
        ({}, {}, ["trainer=multi_node", "trainer.accelerator=cpu", "trainer.devices=1"], "add trainer.num_nodes=2"),
        ({}, {}, ["trainer.num_nodes=2"], "started on each machine by torchrun"),
    ],
)
def test_contradiction_with_sweeper_launcher_or_machines_is_refused(
    sweeper: dict[str, Any], launcher: dict[str, Any], overrides: list[str], wanted: str | None
) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", overrides, return_hydra_config=True)
    with open_dict(config):
        config.hydra.sweeper = sweeper or config.hydra.sweeper
        config.hydra.launcher = launcher or config.hydra.launcher
        config.hydra.runtime.choices = {}
    with pytest.raises(InputError, match=wanted) if wanted else nullcontext():
        checked(config)


@pytest.mark.slow
def test_two_ranks_inside_a_worker_are_pruned_together(tmp_path: Path) -> None:
    parallel = ["hydra/launcher=parallel", "hydra.launcher.pre_dispatch=1"]  # one job after another, in workers
    rates = "optimizer.lr=1e-3,1e-6"
    arguments = ["-m", rates, *parallel, "trainer=ddp_cpu", "run_dir=all", *SMALL, *PRUNED]
    command = [sys.executable, str(ROOT / "train.py"), *arguments]  # a worker of joblib wants a process of its own
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    assert {file.parent.name for file in tmp_path.glob("all/*/metrics.json")} == {"0_triplet", "1_triplet"}
    assert {file.parent.name for file in tmp_path.glob("all/*/pruned.txt")} == {"1_triplet"}
    assert "1_triplet: pruned at epoch 0" in result.stdout
