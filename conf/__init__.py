"""The configuration of train.py, reachable from other Hydra applications as `pkg://lossframe.conf`."""
