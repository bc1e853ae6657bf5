"""Train random set-ups with `LossMonitor`, and compare its curves with numpy: `scripts/fuzz_monitor.py --seed 1`.

Draws intervals, limits, accumulation, dataloaders, checkpoints, ranks, callbacks and the hooks that call losses. A
journal of all recorded values says what every point of every curve must hold. A failure is printed with its set-up:
`--seed 1 --case 12` runs that case alone. Exits with 1 after a failure.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from monitor_runs import outcome
from monitor_setups import Draw
from pool import Pool


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=200, metavar="N", help="how many, from case 0 on")
    parser.add_argument("--case", type=int, metavar="K", help="this one alone")
    parser.add_argument("--ranks", type=int, choices=(1, 2), help="all cases on 1 or on 2 ranks")
    return parser.parse_args()


def fuzz(seed: int, numbers: range, pool: Pool, ranks: int | None = None) -> int:
    """Run cases, print those that fail, and return how many failed."""
    failed = 0
    for number in numbers:
        setup = Draw(seed, number, ranks).setup()
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = outcome(setup, Path(folder), pool)
            except Exception as error:
                found = [f"{type(error).__name__}: {error}"]
        if found:
            failed += 1
            print(f"--seed {seed} --case {number} failed:", *found, setup, sep="\n", flush=True)
            if "did not answer" in found[0]:
                sys.exit("ranks that wait for each other cannot run further cases")
    return failed


def main() -> None:
    """Fuzz, and say how many cases failed."""
    options, start = arguments(), time.perf_counter()
    numbers = range(options.cases) if options.case is None else range(options.case, options.case + 1)
    pool = Pool(2)
    failed = fuzz(options.seed, numbers, pool, options.ranks)
    pool.close()
    print(f"{len(numbers)} cases in {time.perf_counter() - start:.0f} s: {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
