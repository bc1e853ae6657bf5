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
from lossframe.training.run_dir import OVERRIDES, RESOLVED, going_on, taken

Configure = Callable[..., DictConfig]
Command = Callable[..., subprocess.CompletedProcess[str]]


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
    for arguments in (["seed=1"], [""], ["ckpt=null"], ["--cfg", "job"], ["--config-dir=elsewhere", on]):
        assert going_on(arguments) == arguments
    (tmp_path / OVERRIDES).write_text(yaml.safe_dump(["--config-name=mine", *given]))
    assert going_on([on]) == ["--config-name=mine", *given[:-1], f"hydra.run.dir='{tmp_path}'", on]
    for missing in ("last", "nope/last.ckpt"):
        with pytest.raises(InputError, match=f"^ckpt={missing}: there is no such file"):
            going_on([f"ckpt={missing}"])


@pytest.mark.parametrize("damaged", [b"", b"null", b"- [1", b"- 1", b"seed=1", b"{seed: 1}", b"\xff\xfe"])
def test_damaged_overrides_are_named(tmp_path: Path, damaged: bytes) -> None:
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    (tmp_path / OVERRIDES).write_bytes(damaged)
    with pytest.raises(InputError, match=r"overrides\.yaml is damaged: wanted .* mend it, or delete it"):
        going_on([f"ckpt={checkpoint}"])


def taking(folder: Path, text: str, goes_on: bool = False) -> AbstractContextManager[None]:
    return taken(folder, {RESOLVED: text, ".hydra/config.yaml": text}, goes_on)


def held(folder: Path) -> list[str]:
    records = (folder / RESOLVED, folder / ".hydra" / "config.yaml")
    return [path.read_text() for path in records if path.exists()]


@pytest.mark.parametrize("end", [InputError, KeyboardInterrupt])
def test_a_folder_is_as_it_was_after_what_trained_nothing(tmp_path: Path, end: type[BaseException]) -> None:
    with pytest.raises(end, match="nothing"), taking(tmp_path, "failed"):
        raise end("nothing has begun")
    assert held(tmp_path) == []
    metrics, checkpoint = tmp_path / "csv" / "metrics.csv", tmp_path / "checkpoints" / "last.ckpt"
    with taking(tmp_path, "first"):
        assert held(tmp_path) == ["first", "first"]
        for path in (metrics, checkpoint):
            path.parent.mkdir()
            path.touch()
    with pytest.raises(InputError, match="holds a run already"), taking(tmp_path, "over"):
        pass

    def fail(begun: bool) -> None:
        metrics.unlink(missing_ok=True)
        if begun:
            checkpoint.write_text("other weights")
        raise end("something failed")

    with pytest.raises(end, match="failed"), taking(tmp_path, "second", goes_on=True):
        fail(begun=False)
    assert held(tmp_path) == ["first", "first"]
    with pytest.raises(end, match="failed"), taking(tmp_path, "third", goes_on=True):
        fail(begun=True)
    assert held(tmp_path) == ["third", "third"]


def test_a_folder_is_held_until_its_process_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holding = "import sys, time, pathlib; from lossframe.training.run_dir import taken\n"
    holding += "with taken(pathlib.Path(sys.argv[1]), {'resolved.yaml': 'killed'}, False): print(); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-uc", holding, tmp_path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        monkeypatch.setattr("lossframe.training.run_dir._PATIENCE", 0.0)
        for goes_on in (False, True):
            with pytest.raises(InputError, match="another process trains there"), taking(tmp_path, "beside", goes_on):
                pass
        process.kill()
    assert (tmp_path / RESOLVED).read_text() == "killed"
    with taking(tmp_path, "again"):
        assert held(tmp_path) == ["again", "again"]


def test_a_folder_whose_records_cannot_be_written_stays_free(tmp_path: Path) -> None:
    (tmp_path / "records" / "overrides.yaml").mkdir(parents=True)
    with pytest.raises(IsADirectoryError), taken(tmp_path, {RESOLVED: "", "records/overrides.yaml": ""}, False):
        pass
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["overrides.yaml", "records"]


@pytest.mark.slow
def test_a_resume_that_cannot_begin_leaves_the_run_as_it_is(command: Command, tmp_path: Path) -> None:
    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "train.log"}

    run = tmp_path / "run"
    assert command("trainer.max_epochs=1", "hydra.run.dir=run").returncode == 0
    before = contents()
    assert {path.name for path in before} >= {RESOLVED, OVERRIDES, "hydra.yaml", "metrics.csv", "last.ckpt"}
    for wrong in ("optimizer.lr=-1", "data.batch_size=0"):
        assert command("ckpt=run/checkpoints/last.ckpt", "trainer.max_epochs=2", wrong).returncode == 1
        assert contents() == before, wrong
    assert command("ckpt=run/checkpoints/last.ckpt", "trainer.max_epochs=2").returncode == 0
    assert len(rows(run)) > before[run / "csv" / "metrics.csv"].count(b"\n") - 1


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
