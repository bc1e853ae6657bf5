"""Changes training images at random, each by its seed, epoch and id alone: the same on any number of ranks."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lossframe.errors import InputError, names, nearest

_DRAWS = 2  # random numbers that a change uses for an image
_SHIFT, _DEGREES, _FACTOR = 0.125, 15.0, 0.2
Drawn = Tensor
"""Random numbers from -1 to 1, [N, 2]."""


def flip(images: Tensor, drawn: Drawn, background: float) -> Tensor:
    """Mirror half of the images from left to right."""
    return torch.where(drawn[:, 0, None, None, None] < 0, images.flip(3), images)


def crop(images: Tensor, drawn: Drawn, background: float) -> Tensor:
    """Shift images by up to an eighth of their size, as a crop of the image with a margin does."""
    margins = [math.ceil(_SHIFT * size) for size in images.shape[2:]]
    padded = F.pad(images, (margins[1], margins[1], margins[0], margins[0]), value=background)
    rows, columns = (
        torch.arange(size) + (margin + (drawn[:, k] * (margin + 0.5)).round().clamp(-margin, margin).long()[:, None])
        for k, (size, margin) in enumerate(zip(images.shape[2:], margins, strict=True))
    )
    return padded[torch.arange(len(images))[:, None, None], :, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


def rotate(images: Tensor, drawn: Drawn, background: float) -> Tensor:
    """Rotate images by up to 15 degrees about their centre."""
    angle, ratio = drawn[:, 0] * math.radians(_DEGREES), images.shape[2] / images.shape[3]
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    matrix = torch.stack([cos, -sin * ratio, zero, sin / ratio, cos, zero], dim=1).view(-1, 2, 3)
    if not len(images):
        return images
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return background + F.grid_sample(images - background, grid, align_corners=False)


def brightness(images: Tensor, drawn: Drawn, background: float) -> Tensor:
    """Multiply the brightness of images by 0.8 to 1.2, up to white."""
    factor = 1 + _FACTOR * drawn[:, 0, None, None, None]
    return (background + (images - background) * factor).clamp(background, 1)


def contrast(images: Tensor, drawn: Drawn, background: float) -> Tensor:
    """Multiply the distance of the pixels from their image's mean by 0.8 to 1.2, from black to white."""
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (mean + (images - mean) * (1 + _FACTOR * drawn[:, 0, None, None, None])).clamp(background, 1)


CHANGES: dict[str, Callable[[Tensor, Drawn, float], Tensor]] = {
    "flip": flip,
    "crop": crop,
    "rotate": rotate,
    "brightness": brightness,
    "contrast": contrast,
}
"""What can be chosen. A change draws by its place here, whichever others are chosen."""


class Augmentation:
    """Applies the changes of these names to batches of images, in the given order.

    Pixels are from `background`, which is black, to 1. An image depends on the seed, the epoch and its id only.
    """

    def __init__(self, changes: Sequence[str], seed: int = 0, background: float = 0.0) -> None:
        for name in changes:
            if name not in CHANGES:
                raise InputError(
                    f"data.augment: wanted a list of {names(CHANGES)}, found {name!r}.{nearest(name, CHANGES)}"
                )
        self.changes = list(changes)
        self.seed = seed
        self.background = background

    def __call__(self, batch: dict[str, Tensor], epoch: int) -> dict[str, Tensor]:
        """Return a batch with other images."""
        drawn = self._draw(epoch, batch["index"])
        images = batch["image"]
        for name in self.changes:
            images = CHANGES[name](images, drawn[:, list(CHANGES).index(name)], self.background)
        return batch | {"image": images}

    def _draw(self, epoch: int, ids: Tensor) -> Tensor:
        size = len(CHANGES) * _DRAWS
        drawn = [np.random.default_rng([self.seed, epoch, sample]).random(size) for sample in ids.tolist()]
        uniform = torch.from_numpy(np.array(drawn, dtype=np.float32).reshape(-1, len(CHANGES), _DRAWS))
        return 2 * uniform - 1
