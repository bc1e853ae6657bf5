"""The notebook runs from top to bottom, shows what was recorded, and is stored without outputs."""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pycode
import pytest
from conftest import ROOT

NOTEBOOK = ROOT / "docs" / "getting_started.ipynb"


def test_notebook_runs_and_draws_both_terms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    mpl.use("agg")
    names: dict[str, Any] = {"__name__": "__notebook__"}
    for number, cell in enumerate(json.loads(NOTEBOOK.read_text())["cells"]):
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            pycode.execute("".join(cell["source"]), f"{NOTEBOOK.name}, cell {number}", 1, names)
    assert "val/loss/total" in capsys.readouterr().out
    for axis in names["axes"]:
        for line in axis.lines:
            assert line.get_xdata()[-1] == 5 * 1200
    assert names["criterion"].avg["loss"] < 1
