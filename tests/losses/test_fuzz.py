"""A thousand random calls of all losses end as they should; `scripts/fuzz_losses.py` runs more."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from fuzz_losses import fuzz


def test_thousand_random_cases_end_as_they_should(threads: None, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)  # cases are small
    outcomes = fuzz(0, range(1000))
    assert not outcomes["failed"], capsys.readouterr().out
    assert outcomes["right"] > 800
