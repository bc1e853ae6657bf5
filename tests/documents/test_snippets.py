"""Every command and every block of Python in README and docs/ works."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from hydra.errors import HydraException

from lossframe import InputError
from lossframe.training import cli, launch

sys.path.insert(0, str(ROOT / "scripts"))
import pycode
import shell
import snippets

SHORT = ["trainer.max_epochs=1", *(f"trainer.limit_{stage}_batches=2" for stage in ("train", "val", "test"))]
PAGES = [page for page in snippets.documents() if snippets.blocks(page)]
LANGUAGES = {"python", "sh", "yaml", "text"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train what the documents call RUN, by the command, for two batches."""
    folder = tmp_path_factory.mktemp("runs") / "RUN"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lossframe"])
        cli.main(["loss=triplet", "metrics=[]", f"hydra.run.dir={folder}", "trainer.enable_progress_bar=false", *SHORT])
    return folder


def place(page: Path, run: Path, folder: Path) -> None:
    """Fill a folder with what a page takes for granted: its files, a run, a sweep, a table, and photos."""
    (folder / "runs").mkdir()
    (folder / "RUN").symlink_to(run)
    (folder / "runs" / "SWEEP").symlink_to(run.parent)
    snippets.furnish(folder, [page], photos=4)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_of_a_page_work_one_after_the_other(
    page: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(page, run, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # restores it: a project adds itself
    names = {"__name__": "__page__"}
    for block in snippets.blocks(page):
        assert block.language in LANGUAGES, f"{page}:{block.line}: wanted one of {LANGUAGES} after the fence"
        with monkeypatch.context() as patch:
            if block.is_dry:
                patch.setattr(launch, "check_devices", lambda *_: None)
                patch.setattr(launch, "check_nodes", lambda *_: None)
            if block.runs:
                work(block, names)
    for name in [name for name, module in sys.modules.items() if str(tmp_path) in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]


def work(block: snippets.Block, names: dict[str, Any]) -> None:
    """Do what a block says; `names` are those of the page's Python."""
    if block.language == "yaml":
        yaml.safe_load(block.text)
    elif block.language == "python" and block.file:
        importlib.import_module(Path(block.file).stem)
    elif block.language == "python":
        pycode.execute(block.text, str(block.page), block.line, names)
    elif block.language == "sh":
        for command in block.commands():
            shell.follow(command)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("lossframe train loss=tripplet", "tripplet"),
        ("lossframe losses && lossframe train -m loss=triplet seed=1,two", "seed=two"),
        ("rm -r runs", "nobody checks"),
        ("pip install 'lossframe[all]'", "no such extra"),
    ],
)
def test_wrong_command_is_not_followed(command: str, told: str) -> None:
    with pytest.raises((InputError, HydraException, AssertionError), match=told):
        shell.follow(command)


@pytest.mark.parametrize("text", ["1 + 'a'", "[2]  # [1]", "{'a': 1.0}  # {'b': ...}"])
def test_wrong_block_of_python_fails(text: str) -> None:
    with pytest.raises((TypeError, AssertionError)):
        pycode.execute(text, "page", 1, {})
