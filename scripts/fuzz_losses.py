"""Call losses in ways nobody thought of, and compare with float64: `python scripts/fuzz_losses.py --seed 1`.

Draws losses of the catalogue, `NativeLoss`, penalties and objectives, with dtypes, shapes, values, weights, masks,
reductions and grad modes. A case ends in a value and gradients that a slow float64 reference confirms, an `InputError`
where something was wrong, or an infinity that float64's number rounds to as well. Anything else is a failure, printed
with its number: `--seed 1 --case 123` runs that case alone, and shows its inputs. Exits with 1 after a failure.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from fuzzing.cases import case
from fuzzing.judging import FailureError, outcome


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=1000, metavar="N", help="how many, from case 0 on")
    parser.add_argument("--case", type=int, metavar="K", help="this one alone, with its inputs")
    return parser.parse_args()


def fuzz(seed: int, numbers: range, shown: bool = False) -> Counter[str]:
    """Run cases, print those that fail, and return how many ended how."""
    outcomes: Counter[str] = Counter()
    for number in numbers:
        drawn = case(seed, number)
        if shown:
            print(drawn.written())
        try:
            outcomes[outcome(drawn)] += 1
        except FailureError as failure:
            outcomes["failed"] += 1
            print(f"--seed {seed} --case {number}: {drawn.title()}: {failure}", flush=True)
    return outcomes


def main() -> None:
    """Fuzz, and say how many cases ended how."""
    options, start = arguments(), time.perf_counter()
    torch.set_num_threads(1)  # cases are small
    numbers = range(options.cases) if options.case is None else range(options.case, options.case + 1)
    outcomes = fuzz(options.seed, numbers, shown=options.case is not None)
    counts = ", ".join(f"{count} {name}" for name, count in outcomes.most_common())
    print(f"{len(numbers)} cases in {time.perf_counter() - start:.0f} s: {counts}")
    sys.exit(1 if outcomes["failed"] else 0)


if __name__ == "__main__":
    main()
