"""Random set-ups of a training write the curves that a journal of all recorded values demands."""

from pathlib import Path

import pytest
from monitor_runs import outcome
from monitor_setups import Draw
from pool import Pool

CASES, SEED = 20, 0


@pytest.mark.parametrize("number", range(CASES))
def test_curves_of_random_setup_equal_those_of_its_journal(number: int, pool: Pool, tmp_path: Path) -> None:
    setup = Draw(SEED, number).setup()
    found = outcome(setup, tmp_path, pool)
    assert not found, "\n".join([f"python scripts/fuzz_monitor.py --seed {SEED} --case {number}:", *found, str(setup)])
