"""Lays out square images on a sheet, with frames and captions."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

RIGHT, WRONG, PAPER, INK = (0, 130, 80), (213, 60, 0), (255, 255, 255), (60, 60, 60)
FRAME, GAP, LINE = 4, 8, 14  # pixels: of a frame, between tiles, of a line of text


def sheet(
    images: NDArray[np.uint8], captions: Sequence[Sequence[str]], right: Sequence[bool | None], columns: int = 8
) -> NDArray[np.uint8]:
    """Draw square images [N, S, S, 3] as one image [H, W, 3], each in a frame and above its caption lines."""
    side, lines = images.shape[1], max(len(caption) for caption in captions)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    width, height = max(side, 76) + 2 * FRAME + GAP, side + 2 * FRAME + GAP + lines * LINE
    paper = Image.new("RGB", (columns * width + GAP, rows * height + GAP), PAPER)
    pen = ImageDraw.Draw(paper)
    for k, (image, caption) in enumerate(zip(images, captions, strict=True)):
        corner = (GAP + k % columns * width, GAP + k // columns * height)
        tile(paper, pen, corner, image, right[k])
        for line, text in enumerate(caption):
            place = (corner[0], corner[1] + side + 2 * FRAME + line * LINE)
            pen.text(place, text[: width // 6], INK, font_size=11)
    return np.asarray(paper)


def tile(
    paper: Image.Image, pen: ImageDraw.ImageDraw, corner: tuple[int, int], image: NDArray[np.uint8], right: bool | None
) -> None:
    """Paste an image in its frame; a wrong one also gets a cross, for readers who cannot tell the colours apart."""
    left, top = corner
    side = len(image) + 2 * FRAME
    colour = INK if right is None else RIGHT if right else WRONG
    pen.rectangle((left, top, left + side - 1, top + side - 1), fill=colour)
    paper.paste(Image.fromarray(image), (left + FRAME, top + FRAME))
    if right is False:
        far = left + side - 1
        box = (far - 15, top, far, top + 15)
        pen.rectangle(box, fill=WRONG)
        pen.line((box[0] + 4, top + 4, far - 4, top + 11), PAPER, 2)
        pen.line((box[0] + 4, top + 11, far - 4, top + 4), PAPER, 2)
