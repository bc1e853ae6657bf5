"""Compares losses of other libraries, called directly, with the same losses in `NativeLoss`."""
