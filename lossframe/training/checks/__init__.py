"""Checks of a configuration before it is trained, and the one line that explains what is wrong."""
