"""Interrupts runs by kill -9, SIGTERM and Ctrl-C, resumes them, and compares them with uninterrupted ones.

`python scripts/crash_test.py --kills 50` prints a line for each interruption, and exits with 1 if a resumed run differs
from an uninterrupted one in a bit of its weights, or in a point, row or number that it has written.
"""

import argparse
import logging
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from scripts.crashes import stories


def main() -> None:
    """Tell stories of interrupted runs until there have been enough interruptions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of each resumed run
    chance, failed, done, number = random.Random(options.seed), 0, 0, 0
    with tempfile.TemporaryDirectory() as name:
        for ranks in stories.RANKS:
            stories.uninterrupted(Path(name) / f"{ranks}", ranks)
        while done < options.kills:
            ranks = 1 + number % 2
            number += 1
            crashes = [stories.draw(chance, ranks) for _ in range(min(3, options.kills - done))]
            print(f"{ranks} rank{'s' * (ranks > 1)}: {', '.join(crashes)}", flush=True)
            told = stories.story(Path(name) / f"{ranks}", ranks, crashes)
            done += told.interruptions  # a crash may lie beyond the run's end
            failed += bool(told.differences)
            for line in told.differences[:6]:
                print(f"  DIFFERS {line}", flush=True)
    print(f"{done} interruptions of {number} runs, {failed} runs differ from uninterrupted ones")
    sys.exit(min(failed, 1))


if __name__ == "__main__":
    main()
