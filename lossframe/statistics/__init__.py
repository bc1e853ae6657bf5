"""Accumulates and merges exact statistics of values, over steps and ranks in any order."""
