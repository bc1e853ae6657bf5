"""Measure lossframe against its peers: `python scripts/benchmark.py relational`, or another suite.

Prints a Markdown table with the ratios first. Within a case the contestants take turns, so that their ratio does not
depend on what else the machine does; memory is the peak beyond the inputs, of a process of its own. The peers come
with `pip install -c constraints.txt -e '.[bench]'`.
"""

import argparse
import importlib
import os
import sys
from pathlib import Path

from benchmarks import report
from benchmarks.cases import Setting
from benchmarks.runner import run

SUITES = ("relational", "ranking", "dense", "logging", "balancing", "startup")
"""Modules of `benchmarks`, whose `cases(quick)` gives what is measured."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--only", action="append", metavar="TEXT", help="cases whose name holds this; may be repeated")
    parser.add_argument("--largest", type=int, default=10**9, metavar="N", help="no sizes beyond this")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7, help="rounds at least of which the median is taken")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures too")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw time and memory over the size")
    return parser.parse_args()


def main() -> None:
    """Measure a suite, and print what was found."""
    options = arguments()
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # waiting threads let others on after some 0.1 ms
    setting = Setting(options.device, options.threads, options.repeats)
    suite = importlib.import_module(f"benchmarks.{options.suite}")
    cases = suite.cases(options.quick)
    named = [case for case in cases if any(text in case.name for text in options.only or [""])]
    chosen = [case for case in named if case.size <= options.largest]
    if not chosen:
        sys.exit(f"{options.suite}: --only and --largest leave no case; without them it has {len(cases)}")
    print(f"{report.machine(setting)}\n\n{report.HEAD}", flush=True)
    figures = []
    for measured in run(chosen, setting):
        figures += measured
        print(report.rows(measured), flush=True)
    print(f"\n{report.exponents(figures)}".rstrip())
    if hasattr(suite, "summary"):
        print(f"\n{suite.summary(figures)}")
    if options.json:
        report.save(figures, setting, options.json)
    if options.plot:
        report.plot(figures, options.plot)


if __name__ == "__main__":
    main()
