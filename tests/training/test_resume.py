"""A resumed run trains and writes what an uninterrupted one would: no gap, no overlap, no value counted twice."""

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from curves import read
from omegaconf import DictConfig

from lossframe import InputError
from lossframe.training.resume import OVERRIDES, expand
from lossframe.training.run import run
from lossframe.training.run_dir import RESOLVED
from scripts.crashes import stories

Configure = Callable[..., DictConfig]
Command = Callable[..., subprocess.CompletedProcess[str]]


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
    tmp_path: Path, ranks: int, crashes: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    stories.uninterrupted(tmp_path / "runs", ranks)
    assert stories.story(tmp_path / "runs", ranks, crashes) == []
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
        "seed=7", "loss=[triplet,center]", on, "trainer.max_epochs=3", "data.extra=2"
    ]  # fmt: skip
    assert expand(["--cfg", "job", on]) == ["--cfg", "job", *given[:-1], on], "overrides in one piece"
    assert expand(["-p", "seed", "seed=8", on])[:4] == ["-p", "seed", "seed=8", given[1]], "a flag's is no key"
    quoted = expand([f"ckpt='{checkpoint}'"])
    assert quoted[0] == "seed=7"
    for arguments in (["seed=1"], [""], ["ckpt=null"], ["--cfg", "job"], ["--config-dir=elsewhere", on]):
        assert expand(arguments) == arguments
    (tmp_path / OVERRIDES).write_text(yaml.safe_dump(["--config-name=mine", *given]))
    assert expand([on]) == ["--config-name=mine", *given[:-1], f"hydra.run.dir='{tmp_path}'", on]
    for missing in ("last", "nope/last.ckpt"):
        with pytest.raises(InputError, match=f"^ckpt={missing}: there is no such file"):
            expand([f"ckpt={missing}"])


@pytest.mark.parametrize("damaged", [b"", b"null", b"- [1", b"- 1", b"seed=1", b"{seed: 1}", b"\xff\xfe"])
def test_damaged_overrides_raise_an_error_that_names_the_file(tmp_path: Path, damaged: bytes) -> None:
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    (tmp_path / OVERRIDES).write_bytes(damaged)
    with pytest.raises(InputError, match=r"overrides\.yaml is damaged: wanted .* mend it, or delete it"):
        expand([f"ckpt={checkpoint}"])


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "csv" / "metrics.csv").open() as file:
        return [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:Experiment logs directory")
def test_run_resumed_from_a_moved_directory_keeps_its_checkpoints(configure: Configure, tmp_path: Path) -> None:
    first, moved = tmp_path / "first", tmp_path / "moved"
    run(configure("trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2", f"run_dir={first}"))
    last = torch.load(first / "checkpoints" / "last.ckpt", weights_only=False)
    assert last["epoch"] == 2, "of the last epoch, though nothing was validated in it"
    written = rows(first)
    first.rename(moved)
    best = (moved / "checkpoints" / "best.ckpt").read_bytes()
    on = [f"run_dir={moved}", f"ckpt={moved}/checkpoints/last.ckpt"]
    run(configure("trainer.max_epochs=3", *on))
    assert rows(moved)[: len(written)] == written
    run(configure("trainer.max_epochs=4", "weights.triplet=-20", *on))  # which makes it worse
    assert (moved / "checkpoints" / "best.ckpt").read_bytes() == best
    assert f'"{moved}/checkpoints/best.ckpt"' in (moved / "metrics.json").read_text()


@pytest.mark.slow
def test_resume_that_fails_before_training_leaves_the_run_unchanged(command: Command, tmp_path: Path) -> None:
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
def test_run_repeated_from_its_directory_gives_equal_numbers(command: Command, tmp_path: Path) -> None:
    brief = ["trainer.max_epochs=1", *(f"trainer.limit_{stage}_batches=2" for stage in ("train", "val", "test"))]
    first = command("loss=[triplet,center]", "weights.center=0.01", "run_dir=first", *brief)
    assert first.returncode == 0, first.stderr
    again = command("--config-path", "first/.hydra", "--config-name", "config", *brief)
    assert again.returncode == 0, again.stderr
    (second,) = (tmp_path / "runs").iterdir()
    assert second.name.startswith("triplet+center")
    assert (second / "overrides.yaml").read_text().startswith(f"- --config-path={tmp_path / 'first' / '.hydra'}\n")
    numbers = [json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path / "first", second)]
    assert {**numbers[0], "checkpoint": None} == {**numbers[1], "checkpoint": None}
    last = second.relative_to(tmp_path) / "checkpoints" / "last.ckpt"
    on = command(f"ckpt={last}", "trainer.max_epochs=2", "hydra.job.chdir=true")
    assert on.returncode == 0, on.stderr
    assert [step for step, _ in read(second / "val")["loss/triplet"]] == [160, 320]
    assert "ckpt: null\n" in (second / ".hydra" / "config.yaml").read_text(), "a repetition starts anew"
    assert {path.name for path in tmp_path.iterdir()} == {"first", "runs"}
    elsewhere = command(f"ckpt={last}", "trainer.max_epochs=3", "hydra.run.dir=third")
    assert elsewhere.returncode == 0, elsewhere.stderr
