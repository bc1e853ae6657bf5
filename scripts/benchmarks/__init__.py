"""The parts of `scripts/benchmark.py`: a suite a file, and what all suites share."""
