"""Exact statistics of values that merge over steps and ranks in any order."""
