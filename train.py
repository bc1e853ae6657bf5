"""Trains a model on losses composed from conf/: `python train.py loss=triplet` is `lossframe train loss=triplet`."""

import sys

from lossframe.training.cli import main

if __name__ == "__main__":
    main(sys.argv[1:])
