"""Fits and tests one configured run; the only package of lossframe that imports Hydra."""
