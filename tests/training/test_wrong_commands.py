"""Every wrong command ends in one line that names the key and the remedy, and leaves no folder behind."""

import re
import shlex
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT
from PIL import Image

from lossframe import configs
from lossframe.training.cli import main

sys.path.insert(0, str(ROOT / "scripts"))
import wrong_commands
from fuzzing import typed
from fuzzing.chance import Chance
from wrong_commands import Wrong

PROPOSED = re.compile(r"""(?<![\w.'"=/-])([a-z_]\w*)[\w./]*=""")
BAR = re.compile(r"it/s|^\s*$")
KEYS = {*configs.read("train"), *(group.split("/")[0] for group in configs.groups())}


def photos(folder: Path) -> None:
    """Write images of three classes."""
    for label in range(3):
        (folder / "photos" / str(label)).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (8, 8), (80 * label, 20 * number, 0)).save(
                folder / "photos" / str(label) / f"{number}.png"
            )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Start commands in a folder that holds photos alone."""
    photos(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    return tmp_path


QUICK = [*wrong_commands.FORM, *wrong_commands.KEYS[:4], *wrong_commands.VALUES, *wrong_commands.CHOICES[-4:]]
QUICK += wrong_commands.OBJECTS[:5]


@pytest.mark.parametrize(
    "wrong",
    [pytest.param(each, marks=[] if each in QUICK else [pytest.mark.slow]) for each in wrong_commands.ALL],
    ids=lambda wrong: wrong.arguments,
)
def test_wrong_command_ends_in_one_line_and_leaves_no_folder(
    here: Path, capfd: pytest.CaptureFixture[str], wrong: Wrong
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(shlex.split(wrong.arguments))
    out, err = capfd.readouterr()
    if wrong.status == 1:  # Python prints the text that a process exits with
        err += str(caught.value.code)
    else:
        assert caught.value.code == wrong.status
    assert "Sanity" in out or not out, "only a bar of progress may come before"
    line = err.splitlines()[-1]
    assert [each for each in err.splitlines()[:-1] if not BAR.search(each)] == []
    assert line.startswith(f"error: {wrong.key}" if ":" in wrong.key else "error: ")
    assert wrong.key in line
    assert wrong.remedy in line
    for proposed in PROPOSED.findall(line):
        assert proposed in KEYS, f"{proposed} is no key"
    assert [path.name for path in here.iterdir()] == ["photos"]


@pytest.mark.parametrize("part", range(4))
def test_mutated_command_ends_in_a_checked_run_or_one_line(here: Path, part: int) -> None:
    trainings = tuple(line for line in typed.documented() if line.startswith("train ") and "--resume" not in line)
    outcomes: Counter[str] = Counter()
    with typed.in_process():
        for number in range(50 * part, 50 * part + 50):
            outcomes[typed.check(typed.mutated(Chance(0, number), trainings))] += 1
    assert outcomes["refused"] > 30
