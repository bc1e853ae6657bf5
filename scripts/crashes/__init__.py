"""Interrupts runs at chosen places, resumes them, and compares them with uninterrupted ones."""
