"""Writes curves to TensorBoard, to CSV and to Lightning's other loggers."""
