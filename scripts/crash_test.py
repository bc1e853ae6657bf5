"""Interrupts runs by kill -9, SIGTERM and Ctrl-C, resumes them, and compares them with uninterrupted ones.

`python scripts/crash_test.py --kills 50` prints a line for each interruption, and exits with 1 if a resumed run differs
from an uninterrupted one in a bit of its weights, or in a point, row or number that it has written. With
`--configs random` each run has a configuration of its own.
"""

import argparse
import logging
import random
import shlex
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from scripts.crashes import drawing, stories


def main() -> None:
    """Tell stories of interrupted runs until there have been enough interruptions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--configs", choices=["fixed", "random"], default="fixed")
    options = parser.parse_args()
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of each resumed run
    chance, failed, done, number = random.Random(options.seed), 0, 0, 0
    with tempfile.TemporaryDirectory() as name:
        while done < options.kills:
            ranks = 1 + number % 2
            overrides = stories.OPTIONS if options.configs == "fixed" else drawing.configuration(chance)
            folder = Path(name) / f"{ranks if options.configs == 'fixed' else number}"
            number += 1
            told = tell(folder, ranks, overrides, chance, min(3, options.kills - done))
            done += told.interruptions  # a crash may lie beyond the run's end
            failed += bool(told.differences)
    print(f"{done} interruptions of {number} runs, {failed} runs differ from uninterrupted ones")
    sys.exit(min(failed, 1))


def tell(folder: Path, ranks: int, overrides: list[str], chance: random.Random, most: int) -> stories.Told:
    """Tell one story in a folder, where the uninterrupted run may be already, and print its differences."""
    crashes = [stories.draw(chance, ranks) for _ in range(most)]
    print(f"{ranks} rank{'s' * (ranks > 1)}: {', '.join(crashes)}", flush=True)
    if not folder.exists():
        stories.uninterrupted(folder, ranks, overrides)
    told = stories.story(folder, ranks, crashes, overrides)
    for line in told.differences[:6]:
        print(f"  DIFFERS {line}", flush=True)
    if told.differences and overrides is not stories.OPTIONS:
        print(f"  with {shlex.join(overrides)}", flush=True)
    return told


if __name__ == "__main__":
    main()
