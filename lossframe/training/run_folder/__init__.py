"""The folder of a run: its records and its lock, how it is read back, and how the run goes on from a checkpoint."""
