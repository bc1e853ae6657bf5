"""README's example logs its losses, and README is short."""

import sys
from pathlib import Path

import pytest
from conftest import ROOT
from curves import read

sys.path.insert(0, str(ROOT / "scripts"))
import pycode
import snippets


def test_readme_example_logs_its_losses_with_the_unified_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    example = snippets.marked("example").replace("pytorch_lightning", "lightning.pytorch")
    pycode.execute(example, "README.md", 1, {"__name__": "__readme__"})
    (run,) = (tmp_path / "runs").glob("*/version_0")
    for stage in ("train", "val"):
        curves = read(run / stage)
        for suffix in ("", "_std", "_min", "_max"):
            assert curves[f"loss/cross_entropy{suffix}"][-1][0] == 3 * 1797


def test_readme_takes_two_minutes_to_read() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 110
