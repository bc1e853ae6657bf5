"""Draws query samples with their nearest neighbours by embedding."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from lossframe.callbacks.images.base import named
from lossframe.callbacks.images.sampled import SampledImages
from lossframe.callbacks.images.sampling import Rows
from lossframe.callbacks.images.thumbnails import pixels
from lossframe.callbacks.images.tiles import FRAME, GAP, INK, LINE, PAPER, tile
from lossframe.counts import check_counts


class RetrievalExamples(SampledImages):
    """Draws `queries` samples, each with its `neighbours` nearest among `limit` samples other than itself.

    Nearest is by the Euclidean distance of `embeddings` [N, D], which for embeddings of length 1 is the order of
    `RetrievalMetrics`. A neighbour with the query's label of `labels` [N] has a green frame, another a red one and a
    cross. The queries are spread over the split and the same in every epoch. `image` [N, C, H, W] is shown
    `thumbnail` pixels wide or high.
    """

    def __init__(
        self,
        embeddings: str = "embeddings",
        labels: str = "labels",
        image: str = "image",
        queries: int = 10,
        neighbours: int = 5,
        limit: int = 1_000,
        thumbnail: int = 64,
        every_n_epochs: int = 1,
    ) -> None:
        super().__init__({"embeddings": embeddings, "labels": labels, "image": image}, limit, thumbnail, every_n_epochs)
        check_counts(self, queries=queries, neighbours=neighbours)
        self.queries = queries
        self.neighbours = neighbours

    def write(self, writer: SummaryWriter, step: int, seen: Rows, class_names: list[str] | None) -> None:
        """Draw the queries, one per row, and write the image."""
        queries, found = nearest(seen["embeddings"], self.queries, self.neighbours)
        shown = torch.cat([queries[:, None], found], dim=1)
        images = pixels(seen["image"][shown.flatten()], self.thumbnail)
        images = images.reshape(*shown.shape, *images.shape[1:])
        writer.add_image(
            "pictures/retrieval", draw(images, seen["labels"][shown], class_names), step, dataformats="HWC"
        )


def nearest(embeddings: Tensor, queries: int, neighbours: int) -> tuple[Tensor, Tensor]:
    """Return evenly spread rows as queries [Q], and the nearest other rows of each, nearest first [Q, K]."""
    count = len(embeddings)
    rows = torch.arange(min(queries, count)) * count // min(queries, count)
    distances = torch.cdist(embeddings[rows].double(), embeddings.double())
    distances[torch.arange(len(rows)), rows] = torch.inf
    return rows, distances.argsort(dim=1, stable=True)[:, : min(neighbours, count - 1)]


def draw(images: NDArray[np.uint8], labels: Tensor, class_names: list[str] | None) -> NDArray[np.uint8]:
    """Draw rows of square images [Q, 1 + K, S, S, 3], the query first, as one image [H, W, 3]."""
    rows, columns, side = images.shape[:3]
    width, height = side + 2 * FRAME + GAP, side + 2 * FRAME + GAP + LINE
    paper = Image.new("RGB", (columns * width + 2 * GAP, rows * height + LINE + GAP), PAPER)
    pen = ImageDraw.Draw(paper)
    for column in range(columns):
        left = GAP + column * width + (GAP if column else 0)
        pen.text((left, GAP // 2), str(column or "query"), INK, font_size=12)
        for row in range(rows):
            corner = (left, LINE + GAP + row * height)
            right = bool(labels[row, column] == labels[row, 0])
            tile(paper, pen, corner, images[row, column], None if column == 0 else right)
            name = named(labels[row, column : column + 1], class_names)[0]
            pen.text((left + FRAME, corner[1] + side + 2 * FRAME), name[: side // 6], INK, font_size=11)
    return np.asarray(paper)
