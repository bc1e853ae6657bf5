"""The directory of a run is locked while its process lives, and holds the records of a run that has begun to train."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
from conftest import ROOT
from omegaconf import DictConfig

from lossframe import InputError
from lossframe.training.run import run
from lossframe.training.run_folder.resume import expand
from lossframe.training.run_folder.run_dir import RESOLVED, locked, write

Configure = Callable[..., DictConfig]
Command = Callable[..., subprocess.CompletedProcess[str]]
HOLD = """
import pathlib, sys, time
from lossframe.training.run_folder.run_dir import locked
with locked(pathlib.Path(sys.argv[1]), resume=False):
    print()
    time.sleep(60)
"""


@pytest.mark.parametrize("resume", [False, True])
def test_directory_is_locked_until_its_process_ends(tmp_path: Path, resume: bool) -> None:
    with subprocess.Popen([sys.executable, "-uc", HOLD, tmp_path], stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with (
            pytest.raises(InputError, match="another process trains there"),
            locked(tmp_path, resume, patience=0.0),
        ):
            pass
        process.kill()
    with locked(tmp_path, resume):
        assert list(tmp_path.iterdir()) == [], "a lock leaves no file"


def test_resume_waits_for_a_lock_that_is_released_soon(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-uc", HOLD, tmp_path], stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        threading.Timer(0.5, process.kill).start()
        with locked(tmp_path, resume=True):
            assert process.poll() is not None


def test_recorded_directory_is_locked_for_a_resumed_run_only(tmp_path: Path) -> None:
    write(tmp_path, {RESOLVED: "first", ".hydra/config.yaml": "first"})
    with pytest.raises(InputError, match="holds a run already"), locked(tmp_path, resume=False):
        pass
    with locked(tmp_path, resume=True):
        write(tmp_path, {RESOLVED: "second"})
    assert (tmp_path / RESOLVED).read_text() == "second"
    assert (tmp_path / ".hydra" / "config.yaml").read_text() == "first"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ckpt=nope"], "^ckpt=nope: there is no such file; wanted a run's folder"),
        (["ckpt=nope/last.ckpt"], "^ckpt=nope/last.ckpt: there is no such file"),
        (
            [f"ckpt={__file__}"],
            "wanted a run's folder, or RUN/checkpoints/FILE, found a file in no run's folder",
        ),
        (["-m", "ckpt=.", "seed=1,2"], "^ckpt=.: wanted one run to go on with, found -m, a sweep of several"),
    ],
)
def test_what_is_no_run_to_go_on_with_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    write(tmp_path, {RESOLVED: "run"})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        expand(arguments)


class FailingEnd(pl.Callback):
    """Raises an error in one hook."""

    def __init__(self, hook: str) -> None:
        setattr(self, hook, self.fail)

    def fail(self, *arguments: object) -> None:
        raise InputError("nothing goes on")


@pytest.mark.parametrize(("hook", "recorded"), [("on_sanity_check_end", False), ("on_train_batch_end", True)])
def test_records_are_written_once_training_starts(
    configure: Configure, tmp_path: Path, hook: str, recorded: bool
) -> None:
    failing = [f"+callbacks.failing._target_={__name__}.FailingEnd", f"+callbacks.failing.hook={hook}"]
    config = configure("logger=[]", "trainer.max_epochs=1", *failing)
    with pytest.raises(InputError, match="nothing goes on"):
        run(config, {RESOLVED: "text"})
    assert (tmp_path / RESOLVED).exists() == recorded


@pytest.mark.slow
def test_second_run_into_a_directory_is_refused(command: Command) -> None:
    assert command("trainer.max_epochs=1", "hydra.run.dir=same").returncode == 0
    result = command("trainer.max_epochs=1", "hydra.run.dir=same")
    assert result.returncode != 0
    assert "holds a run already" in result.stderr.splitlines()[-1]


@pytest.mark.slow
def test_sigterm_to_one_rank_stops_all_ranks(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", str(ROOT / "train.py"), "trainer=ddp_cpu", "trainer.devices=2", "hydra.run.dir=run",
         "trainer.max_epochs=500", "trainer.enable_progress_bar=false"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ranks = [process.pid, *(int(child) for child in children if b"lossframe" in command_of(child))]
    assert len(ranks) == 2
    subprocess.run(["kill", "-TERM", str(ranks[0])], check=True)
    assert process.wait(60) == 143
    while any(b"train" in command_of(str(rank)) for rank in ranks):
        assert time.monotonic() < deadline + 60, "a rank is left"
        time.sleep(0.1)


def command_of(process: str) -> bytes:
    path = Path("/proc") / process / "cmdline"
    return path.read_bytes() if path.exists() else b""
