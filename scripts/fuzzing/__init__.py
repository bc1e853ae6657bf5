"""The parts of `scripts/fuzz_losses.py`: what is drawn, how a case is run, and what may come of it."""
