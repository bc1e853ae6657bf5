"""Implements the LossMonitor, which collects the statistics of a module's losses and writes them as curves."""
