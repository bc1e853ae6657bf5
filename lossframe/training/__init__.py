"""Fits and tests one configured run; the only package that imports Hydra."""
