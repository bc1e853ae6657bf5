"""Compare two runs: `python scripts/compare_runs.py RUN RUN`; exit 1 if their curves, metrics or weights differ."""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from scripts.crashes.records import curves, metrics, weights


def distance(one: object, other: object) -> float:
    """Return the largest relative difference of two arrays; infinity where shapes differ."""
    a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if a.shape != b.shape:
        return float("inf")
    return float(np.max(np.abs(a - b) / (np.abs(a) + 1e-3), initial=0.0))


def main() -> None:
    """Print the largest difference of each kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs=2, type=Path)
    parser.add_argument("--rtol", type=float, default=1e-6)
    options = parser.parse_args()
    worst = 0.0
    for kind in (curves, metrics, weights):
        one, other = (kind(run) for run in options.runs)
        if one.keys() != other.keys():
            sys.exit(f"{kind.__name__}: only one run has {sorted(one.keys() ^ other.keys())}")
        largest = max(((distance(one[name], other[name]), name) for name in one), default=(0.0, "nothing"))
        print(f"{kind.__name__:<8} {len(one):>4} compared, largest relative difference {largest[0]:.1e} ({largest[1]})")
        worst = max(worst, largest[0])
    sys.exit(0 if worst <= options.rtol else f"the runs differ by more than {options.rtol:g}")


if __name__ == "__main__":
    main()
