"""Objectives compute named losses of one frame, and combine them into a total."""
