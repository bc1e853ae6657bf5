"""The LossMonitor: collects the statistics of a module's losses and turns them into curves."""
