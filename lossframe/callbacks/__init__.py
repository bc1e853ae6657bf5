"""Lightning callbacks that monitor losses, draw images, write hyperparameters, and save, stop and check a training."""
