"""Names the files by which the directory of a sweep's job says how the job ended, if not with a test alone."""

FAILED = "failed.txt"
"""Says in one line why a job failed."""
PRUNED = "pruned.txt"
"""Says in one line when a job was pruned."""
