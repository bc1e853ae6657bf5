"""Random calls of losses and other random input end as they should; `scripts/fuzz_*.py` run more."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import fuzz_inputs
import fuzz_losses


def test_thousand_random_calls_of_losses_end_as_they_should(threads: None, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)  # cases are small
    outcomes = fuzz_losses.fuzz(0, range(1000))
    assert not outcomes["failed"], capsys.readouterr().out
    assert outcomes["right"] > 800


def test_two_thousand_random_inputs_end_in_a_value_or_one_line(
    threads: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    outcomes = fuzz_inputs.fuzz(0, range(2000))
    assert not [name for name in outcomes if "failed" in name], capsys.readouterr().out
    assert {f"{kind} refused" for kind in fuzz_inputs.KINDS} - {"events refused"} <= {*outcomes}
