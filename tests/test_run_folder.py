"""A run's folder is its own: what it leaves there, and what goes on with it, here or where it was moved."""

import csv
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT
from omegaconf import DictConfig

import train
from lossframe import InputError
from lossframe.run_folder import OVERRIDES, RESOLVED, going_on, taken

Configure = Callable[..., DictConfig]


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "csv" / "metrics.csv").open() as file:
        return [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:Experiment logs directory")
def test_a_moved_run_keeps_its_best_and_its_last(configure: Configure, tmp_path: Path) -> None:
    first, moved = tmp_path / "first", tmp_path / "moved"
    train.run(configure("trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2", f"run_dir={first}"))
    last = torch.load(first / "checkpoints" / "last.ckpt", weights_only=False)
    assert last["epoch"] == 2, "of the last epoch, though nothing was validated in it"
    written = rows(first)
    first.rename(moved)
    best = (moved / "checkpoints" / "best.ckpt").read_bytes()
    on = [f"run_dir={moved}", f"ckpt={moved}/checkpoints/last.ckpt"]
    train.run(configure("trainer.max_epochs=3", *on))
    assert rows(moved)[: len(written)] == written
    train.run(configure("trainer.max_epochs=4", "weights.triplet=-20", *on))  # which makes it worse
    assert (moved / "checkpoints" / "best.ckpt").read_bytes() == best
    assert f'"{moved}/checkpoints/best.ckpt"' in (moved / "metrics.json").read_text()


def test_going_on_gives_what_the_run_was_given(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    on = f"ckpt={checkpoint}"
    assert going_on([on]) == [on], "nothing is known of it"
    given = ["seed=7", "loss=[triplet,center]", "trainer.max_epochs=2", "+data.extra=1", "ckpt=earlier"]
    (tmp_path / OVERRIDES).write_text(yaml.safe_dump(given))
    assert going_on([on, "trainer.max_epochs=3", "data.extra=2"]) == [
        "seed=7", "loss=[triplet,center]", on, "trainer.max_epochs=3", "data.extra=2"
    ]  # fmt: skip
    assert going_on(["--cfg", "job", on]) == ["--cfg", "job", *given[:-1], on], "overrides in one piece"
    assert going_on(["-p", "seed", "seed=8", on])[:4] == ["-p", "seed", "seed=8", given[1]], "a flag's is no key"
    quoted = going_on([f"ckpt='{checkpoint}'"])
    assert quoted[0] == "seed=7"
    for arguments in (["seed=1"], [""], ["ckpt=null"], ["--cfg", "job"], ["--config-path=elsewhere", on]):
        assert going_on(arguments) == arguments
    for missing in ("last", "nope/last.ckpt"):
        with pytest.raises(InputError, match=f"^ckpt={missing}: there is no such file"):
            going_on([f"ckpt={missing}"])


def test_a_folder_is_taken_once_and_freed_by_what_never_began(tmp_path: Path) -> None:
    def taking(text: str, goes_on: bool = False) -> AbstractContextManager[None]:
        return taken(tmp_path, {RESOLVED: text, ".hydra/config.yaml": text}, goes_on)

    def held() -> list[str]:
        records = (tmp_path / RESOLVED, tmp_path / ".hydra" / "config.yaml")
        return [path.read_text() for path in records if path.exists()]

    with pytest.raises(InputError, match="nothing"), taking("failed"):
        raise InputError("nothing has begun")
    assert held() == []
    with taking("first"):
        assert held() == ["first", "first"]
        with pytest.raises(InputError, match="holds a run already"), taking("beside"):
            pass
        (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match="holds a run already"), taking("over"):
        pass
    assert held() == ["first", "first"]
    with pytest.raises(InputError, match="nothing"), taking("failed", goes_on=True):
        raise InputError("nothing was trained")
    assert held() == ["first", "first"]

    def fail_later() -> None:
        (tmp_path / "train" / "events").touch()
        raise InputError("something was trained")

    with pytest.raises(InputError, match="something"), taking("second", goes_on=True):
        fail_later()
    assert held() == ["second", "second"]


def test_a_folder_whose_records_cannot_be_written_stays_free(tmp_path: Path) -> None:
    (tmp_path / "records" / "overrides.yaml").mkdir(parents=True)
    with pytest.raises(IsADirectoryError), taken(tmp_path, {RESOLVED: "", "records/overrides.yaml": ""}, False):
        pass
    assert not (tmp_path / RESOLVED).exists()


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_ranks_end_on_sigterm(tmp_path: Path, victim: int) -> None:
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
    ranks = [process.pid, *(int(child) for child in children if b"train.py" in command_of(child))]
    assert len(ranks) == 2
    subprocess.run(["kill", "-TERM", str(ranks[victim])], check=True)
    assert process.wait(60) != 0
    while any(b"train.py" in command_of(str(rank)) for rank in ranks):
        assert time.monotonic() < deadline + 60, "a rank is left"
        time.sleep(0.1)


def command_of(process: str) -> bytes:
    path = Path("/proc") / process / "cmdline"
    return path.read_bytes() if path.exists() else b""


def test_signals_are_those_of_before_afterwards(configure: Configure) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train.run(configure("trainer.max_epochs=1", "trainer.limit_train_batches=2", "logger=[]"))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
