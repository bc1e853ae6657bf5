"""Objectives: named losses of one frame, weighted and summed."""
