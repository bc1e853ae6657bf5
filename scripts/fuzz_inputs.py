"""Feed random input to all that reads input: `python scripts/fuzz_inputs.py --cases 100000 --seed 1`.

Kinds: frames of an objective, values of configurations, command lines, event files, checkpoints, trainings that go on
from one, CSV files and records of runs; `fuzz_losses.py` compares losses with float64. A case ends in a value, which is
right where it is known, or in one line of an `InputError`. Another error, a call that hangs and a silent NaN are
failures, printed with the case: `--seed 1 --case 123` runs it alone. Exits with 1 after a failure.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from fuzzing import commands, files, frames, resumes, typed
from fuzzing.chance import Chance
from fuzzing.endings import FailureError

KINDS = {
    "frames": (frames.case, 55), "overrides": (commands.of_overrides, 15), "events": (files.of_events, 15),
    "csv": (files.of_tables, 3), "configs": (commands.of_values, 6), "records": (files.of_records, 4),
    "checkpoints": (files.of_checkpoints, 2), "resumes": (resumes.case, 0.5), "typed": (typed.case, 2),
}  # fmt: skip
"""The kinds of cases, and how many of each there are in a hundred."""


def fuzz(seed: int, numbers: range, only: str | None = None) -> Counter[str]:
    """Run cases, print those that fail, and return how many of each kind ended how."""
    outcomes: Counter[str] = Counter()
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)  # relative paths of configurations lead nowhere else
        try:
            for number in numbers:
                outcomes[_one(seed, number, only, Path(name))] += 1
        finally:
            os.chdir(before)
    return outcomes


def _one(seed: int, number: int, only: str | None, folder: Path) -> str:
    chance = Chance(seed, number)
    kind = only or chance.random.choices([*KINDS], [share for _, share in KINDS.values()])[0]
    place = folder / kind
    place.mkdir(exist_ok=True)
    try:
        return f"{kind} {KINDS[kind][0](chance, place)}"
    except FailureError as failure:
        chosen = f" --kind {only}" if only else ""
        print(f"--seed {seed} --case {number}{chosen}: {kind}: {failure}", flush=True)
        return f"{kind} failed"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=2000, metavar="N", help="how many")
    parser.add_argument("--from", type=int, default=0, metavar="K", dest="first", help="the first case")
    parser.add_argument("--case", type=int, metavar="K", help="this one alone")
    parser.add_argument("--kind", choices=KINDS, help="all cases of this kind")
    return parser.parse_args()


def main() -> None:
    """Fuzz, and say how many cases of each kind ended how."""
    options, start = arguments(), time.perf_counter()
    torch.set_num_threads(1)  # cases are small
    numbers = (
        range(options.first, options.first + options.cases)
        if options.case is None
        else range(options.case, options.case + 1)
    )
    outcomes = fuzz(options.seed, numbers, options.kind)
    for name, count in sorted(outcomes.items()):
        print(f"{name:<24} {count}")
    print(f"{len(numbers)} cases in {time.perf_counter() - start:.0f} s, {time.process_time():.0f} s of one core")
    sys.exit(1 if any("failed" in name for name in outcomes) else 0)


if __name__ == "__main__":
    main()
