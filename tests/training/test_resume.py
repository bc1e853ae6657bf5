"""A resumed run trains and writes what an uninterrupted one would: no gap, no overlap, no value counted twice."""

import json
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from curves import read
from forked import ROOT, Completed, Forked, run_script
from logs import own_log_handlers
from omegaconf import DictConfig

from lossframe import InputError
from lossframe.training.cli import main
from lossframe.training.configuration.arguments import normalised
from lossframe.training.run import run
from lossframe.training.run_folder.resume import OVERRIDES, expand
from lossframe.training.run_folder.run_dir import RESOLVED
from scripts.crashes import faults, records, stories

Configure = Callable[..., DictConfig]
Train = Callable[..., str]
BRIEF = ["trainer.max_epochs=1", *(f"trainer.limit_{stage}_batches=2" for stage in ("train", "val", "test"))]
ONE = "hydra.mode=RUN"
OWN = """
# @package _global_
loss: {mine: {_target_: lossframe.losses.MSELoss}}
inputs: {mine: {prediction: features, target: features, weight: null}}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ranks", "crashes"),
    [
        (1, ["SIGKILL:train:9:0", "SIGINT:train:5:0", "SIGKILL:val:3:0", "SIGKILL:test:2:0"]),
        (2, ["SIGKILL:save:3:0", "SIGTERM:step:2:1", "SIGKILL:rotate:2:0"]),
    ],
    ids=["one", "two"],
)
def test_run_that_is_interrupted_everywhere_equals_an_uninterrupted_one(
    tmp_path: Path, ranks: int, crashes: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(folder: Path, arguments: list[str], crash: str = "") -> Completed:
        environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", faults.CRASH: crash or ":::"}
        script = (run_script, ROOT / "train.py", arguments)
        return Forked(*script, folder=folder, logs=tmp_path, environment=environment).end(200)

    monkeypatch.setattr(stories, "start", start)
    stories.uninterrupted(tmp_path / "runs", ranks)
    assert stories.story(tmp_path / "runs", ranks, crashes) == (len(crashes), [])
    assert capsys.readouterr().out.count("goes on from step") == len(crashes)


def test_arguments_of_a_resumed_run_are_the_recorded_and_the_new(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    on = f"ckpt={checkpoint}"
    assert expand([on]) == [on], "nothing is known of it"
    given = ["seed=7", "loss=[triplet,center]", "trainer.max_epochs=2", "+data.extra=1", "ckpt=earlier"]
    (tmp_path / OVERRIDES).write_text(yaml.safe_dump(given))
    assert expand([on, "trainer.max_epochs=3", "data.extra=2"]) == [
        "seed=7", "loss=[triplet,center]", ONE, on, "trainer.max_epochs=3", "data.extra=2"
    ]  # fmt: skip
    assert expand(["--cfg", "job", on]) == ["--cfg", "job", *given[:-1], ONE, on], "overrides in one piece"
    assert expand(["-p", "seed", "seed=8", on])[:4] == ["-p", "seed", "seed=8", given[1]], "a flag's is no key"
    assert expand(["--config-dir=mine", on]) == ["--config-dir=mine", *given[:-1], ONE, on]
    assert expand([f"ckpt='{checkpoint}'"])[0] == "seed=7"
    for arguments in (["seed=1"], [""], ["ckpt=null"], ["--cfg", "job"], ["--config-path=elsewhere", on]):
        assert expand(arguments) == arguments
    (tmp_path / OVERRIDES).write_text(yaml.safe_dump(["--config-name=mine", *given]))
    wanted = ["--config-name=mine", *given[:-1], f"hydra.run.dir={tmp_path}", ONE, on]
    assert expand([on]) == wanted
    assert expand(["--config-name=mine", on]) == wanted


@pytest.mark.parametrize(
    ("typed", "left"),
    [
        ("trainer=ddp_cpu", ["trainer.max_epochs=9", "data=csv", "data.path=a.csv", "optimizer.lr=1"]),
        ("data=digits", ["trainer.devices=3", "trainer.max_epochs=9", "optimizer.lr=1"]),
        ("data=csv", ["trainer.devices=3", "trainer.max_epochs=9", "data.path=a.csv", "optimizer.lr=1"]),
        ("optimizer=sgd", ["trainer.devices=3", "trainer.max_epochs=9", "data=csv", "data.path=a.csv"]),
    ],
)
def test_another_choice_of_a_group_leaves_out_its_recorded_options(tmp_path: Path, typed: str, left: list[str]) -> None:
    (tmp_path / RESOLVED).touch()
    recorded = ["trainer.devices=3", "trainer.max_epochs=9", "data=csv", "data.path=a.csv", "optimizer.lr=1"]
    (tmp_path / OVERRIDES).write_text(yaml.safe_dump(recorded))
    assert expand([f"ckpt={tmp_path}", typed]) == [*left, ONE, f"ckpt={tmp_path}", typed]


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        (["--resume"], ["ckpt=last"]),
        (["--resume", "seed=2"], ["ckpt=last", "seed=2"]),
        (["seed=2", "--resume", "a run", "--cfg", "job"], ["--cfg", "job", "seed=2", "ckpt='a run'"]),
        (["--resume=runs/a", "seed=2"], ["ckpt=runs/a", "seed=2"]),
    ],
)
def test_flag_resume_names_a_run(typed: list[str], read: list[str]) -> None:
    assert normalised(typed) == read


@pytest.mark.parametrize("damaged", [b"", b"null", b"- [1", b"- 1", b"seed=1", b"{seed: 1}", b"\xff\xfe"])
def test_damaged_overrides_raise_an_error_that_names_the_file(tmp_path: Path, damaged: bytes) -> None:
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    (tmp_path / OVERRIDES).write_bytes(damaged)
    with pytest.raises(InputError, match=r"overrides\.yaml is damaged: wanted .* mend it, or delete it"):
        expand([f"ckpt={checkpoint}"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:Experiment logs directory")
def test_run_resumed_from_a_moved_directory_keeps_its_checkpoints(configure: Configure, tmp_path: Path) -> None:
    first, moved = tmp_path / "first", tmp_path / "moved"
    run(configure("trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2", f"run_dir={first}"))
    last = torch.load(first / "checkpoints" / "last.ckpt", weights_only=False)
    assert last["epoch"] == 2, "of the last epoch, though nothing was validated in it"
    written = records.rows(first)
    first.rename(moved)
    best = (moved / "checkpoints" / "best.ckpt").read_bytes()
    on = [f"run_dir={moved}", f"ckpt={moved}/checkpoints/last.ckpt"]
    run(configure("trainer.max_epochs=3", *on))
    assert set(written) <= set(records.rows(moved))
    run(configure("trainer.max_epochs=4", "weights.triplet=-20", *on))  # which makes it worse
    assert (moved / "checkpoints" / "best.ckpt").read_bytes() == best
    assert f'"{moved}/checkpoints/best.ckpt"' in (moved / "metrics.json").read_text()


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Train:
    """Run `lossframe train ...` in this process and in a folder, and return what it says on stderr, or its status."""

    def run_command(*arguments: str, folder: str = ".", crash: str = ":::") -> str:
        monkeypatch.chdir(tmp_path / folder)
        monkeypatch.setattr(sys, "argv", ["train"])
        monkeypatch.setenv(faults.CRASH, crash)
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
        capsys.readouterr()
        try:
            with own_log_handlers():
                main([*arguments, "trainer.enable_progress_bar=false"])
        except SystemExit as stopped:
            return str(stopped.code)
        return capsys.readouterr().err

    return run_command


def test_run_goes_on_from_its_own_folder_with_its_own_configuration(train: Train, tmp_path: Path) -> None:
    (tmp_path / "mine" / "loss").mkdir(parents=True)
    (tmp_path / "mine" / "loss" / "own.yaml").write_text(OWN)
    train("--config-dir=mine", "loss=own", "metrics=[]", "run_dir=run", *BRIEF)
    said = train("--resume", "trainer.max_epochs=2", folder="run")
    assert f"goes on          {tmp_path}/run/checkpoints/last.ckpt, after 1 whole epochs, 2 steps" in said
    assert [step for step, _ in read(tmp_path / "run" / "val")["loss/mine"]] == [160, 320]
    assert "finished" in train("--config-dir=mine", "ckpt=run")
    assert "found a folder of runs; choose one, as 'run'" in train("--resume")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "train.log").touch()
    assert "found none that has begun to train; start it again by its command" in train("--resume", "begun")


def contents(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "train.log"}


def test_checkpoint_is_checked_before_the_run_is_changed(train: Train, tmp_path: Path) -> None:
    train("run_dir=run", *BRIEF)
    run, before = tmp_path / "run", contents(tmp_path / "run")
    other = tmp_path / "other" / "checkpoints"
    other.mkdir(parents=True)
    torch.save({"state_dict": {}, "of": Path("no tensor")}, other / "object.ckpt")
    torch.save({"state_dict": {}}, other / "dict.ckpt")
    (other / "pickle.ckpt").write_bytes(pickle.dumps({"state_dict": {}}))
    for wrong, said in {
        "optimizer.lr=-1": "optimizer.lr=-1: wanted a finite number, 0 or more",
        "data.batch_size=0": "data.batch_size",
        "loss=[triplet,center]": "choose the same losses, loss=[triplet]",
        "model.embedding_size=7": "model.project.weight of [64, 64] for [7, 64]",
        f"ckpt={other}/object.ckpt": "found an object of pathlib",
        f"ckpt={other}/dict.ckpt": "found a file without 'loops', 'pytorch-lightning_version'",
        f"ckpt={other}/pickle.ckpt": "found a truncated or foreign file; take another one of its folder, 'dict.ckpt'",
    }.items():
        answer = train("ckpt=run/checkpoints/last.ckpt", "trainer.max_epochs=2", wrong)
        assert answer.startswith("error: "), wrong
        assert said in answer
        assert contents(run) == before, wrong
    os.truncate(run / "checkpoints" / "last.ckpt", 1000)
    answer = train("--resume", "run", "trainer.max_epochs=2")
    assert answer.index("passed over") < answer.index(f"goes on          {run}/checkpoints/best.ckpt")


def test_requeued_job_goes_on_and_begins_anew_without_a_checkpoint(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ["run_dir=run", *BRIEF[1:]]
    train(*job, "trainer.max_epochs=1")
    assert "holds a run already" in train(*job, "trainer.max_epochs=2")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert "goes on" in train(*job, "trainer.max_epochs=2")
    whole, written = records.curves(tmp_path / "run"), records.rows(tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        path.unlink()
    assert "trains anew" in train(*job, "trainer.max_epochs=2")
    anew, found = records.curves(tmp_path / "run"), records.rows(tmp_path / "run")
    assert all(points == anew[tag] for tag, points in whole.items() if not tag.startswith("test/"))
    assert [row for row in written if row in found] == found, "none twice, none but the first test is gone"


def test_repeated_run_gives_equal_numbers_and_goes_on(train: Train, tmp_path: Path) -> None:
    train("loss=[triplet,center]", "weights.center=0.01", "run_dir=first", *BRIEF)
    train("--config-path", "first/.hydra", "--config-name", "config", *BRIEF)
    (second,) = (tmp_path / "runs").iterdir()
    assert second.name.startswith("triplet+center")
    assert (second / OVERRIDES).read_text().startswith(f"- --config-path={tmp_path / 'first' / '.hydra'}\n")
    numbers = [json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path / "first", second)]
    assert {**numbers[0], "checkpoint": None} == {**numbers[1], "checkpoint": None}
    train("--resume", str(second), "trainer.max_epochs=2", "hydra.job.chdir=true")
    assert [step for step, _ in read(second / "val")["loss/triplet"]] == [160, 320]
    assert "ckpt: null\n" in (second / ".hydra" / "config.yaml").read_text(), "a repetition starts anew"
    assert {path.name for path in tmp_path.iterdir()} == {"first", "runs"}


@pytest.mark.slow
def test_run_goes_on_with_other_numbers_of_ranks(train: Train, tmp_path: Path) -> None:
    options = ["+callbacks.crash._target_=scripts.crashes.faults.Crash", "trainer.precision=64-true", "log_every=5"]
    options += ["trainer.max_epochs=3"]
    train("run_dir=whole", *options)
    assert train("run_dir=run", *options, crash="SIGTERM:train:8:0") == "143"
    on_two = ["--resume", "run", "trainer=ddp_cpu", "trainer.devices=2"]
    assert stories.start(tmp_path, on_two, "SIGTERM:train:13:1").returncode == 143
    assert "goes on" in train("--resume", "run", "trainer=cpu")
    whole, found = records.curves(tmp_path / "whole"), records.curves(tmp_path / "run")
    assert found.keys() == whole.keys()
    for tag, points in whole.items():
        assert [step for step, _ in found[tag]] == [step for step, _ in points], tag
        assert [value for _, value in found[tag]] == pytest.approx([value for _, value in points], rel=1e-6), tag
