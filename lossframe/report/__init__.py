"""Reads the folders of runs: a summary of a sweep as a table, and the curves as one HTML file without TensorBoard."""
