"""Reads image files: upright, with 1 or 3 channels, resized; an error names the file."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

from lossframe.errors import InputError

GREY = frozenset({"1", "L", "LA", "I;16", "I;16B", "I;16L", "I;16N"})
"""Pillow's modes of images without colours."""


def read(path: Path, of: Callable[[Image.Image], Any]) -> Any:
    """Open an image and return what `of` returns; an `InputError` names a file that is no image."""
    try:
        with Image.open(path) as image:
            return of(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as an image ({error}): replace or remove it") from error


def upright(image: Image.Image) -> tuple[int, int]:
    """Return the height and width of an image as it is looked at, without reading its pixels."""
    sideways = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    return image.size if sideways else (image.height, image.width)


def pixels(image: Image.Image, shape: Sequence[int]) -> np.ndarray[Any, Any]:
    """Return an image as float32 [C, H, W] in [0, 1], resized to a shape with 1 or 3 channels."""
    channels, height, width = shape
    turned = _eight_bits(ImageOps.exif_transpose(image)).convert("L" if channels == 1 else "RGB")
    resized = np.asarray(turned.resize((width, height), Image.Resampling.BILINEAR))
    return resized.reshape(height, width, channels).transpose(2, 0, 1).astype(np.float32) / 255


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow's own conversion clips at 255
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are {image.mode}, 32 bits each, not 8 or 16")
    return image
