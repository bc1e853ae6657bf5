"""Shrinks the images of a batch to thumbnails, and converts thumbnails to square pixels."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lossframe.errors import InputError

HALF = torch.finfo(torch.float16).max
LARGEST = 1024
"""Pixels a side of the largest thumbnail: a picture of many larger ones would not fit into memory."""


def thumbnails(image: Tensor, side: int) -> Tensor:
    """Shrink images [N, C, H, W] of any range to float16 [N, 1 or 3, h, w], h and w at most `side`."""
    if image.ndim != 4:
        raise InputError(f"wanted images [N, C, H, W], found {list(image.shape)}")
    shown = image[:, : 3 if image.shape[1] >= 3 else 1].float()
    longest = max(shown.shape[2:])
    if longest > side:
        height, width = (max(1, round(length * side / longest)) for length in shown.shape[2:])
        shown = F.interpolate(shown, (height, width), mode="area")
    return shown.clamp(-HALF, HALF).half()


def pixels(thumbnail: Tensor, side: int) -> NDArray[np.uint8]:
    """Return thumbnails as pixels [N, side, side, 3]: joint range 0 to 255, enlarged by a whole factor and centred."""
    shown = thumbnail.float().nan_to_num()
    low, high = shown.min(), shown.max()
    shown = (shown - low) / (high - low).clamp(min=1e-12)
    times = max(1, side // max(shown.shape[2:]))
    shown = shown.repeat_interleave(times, dim=2).repeat_interleave(times, dim=3)
    height, width = shown.shape[2:]
    square = torch.zeros(len(shown), 3, side, side)
    top, left = (side - height) // 2, (side - width) // 2
    square[:, :, top : top + height, left : left + width] = shown
    return (square * 255).round().byte().permute(0, 2, 3, 1).numpy()
