"""Algorithms that deserve a name of their own: pure functions of tensors."""
