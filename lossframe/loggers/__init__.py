"""Where curves go: TensorBoard, CSV, and any other of Lightning's loggers."""
