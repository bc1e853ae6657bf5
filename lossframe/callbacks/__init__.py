"""Lightning callbacks: the monitor of losses, images beside its curves, and what a run needs around its training."""
