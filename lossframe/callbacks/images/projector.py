"""Writes embeddings into TensorBoard's projector."""

import torch
from torch.utils.tensorboard import SummaryWriter

from lossframe.callbacks.images.base import named
from lossframe.callbacks.images.sampled import SampledImages
from lossframe.callbacks.images.sampling import Rows
from lossframe.callbacks.images.thumbnails import pixels


class EmbeddingProjector(SampledImages):
    """Shows `limit` samples' `embeddings` [N, D] in the projector, with `labels` [N] and thumbnails of `image`.

    `labels` and `image` [N, C, H, W] may be None; `thumbnail` is the longest side of a thumbnail in pixels. Every
    number takes about 10 bytes of text in the stage's directory. By default, only the last validation and the test are
    written; `every_n_epochs` writes more.
    """

    def __init__(
        self,
        embeddings: str = "embeddings",
        labels: str | None = "labels",
        image: str | None = "image",
        limit: int = 1_000,
        thumbnail: int = 32,
        every_n_epochs: int | None = None,
    ) -> None:
        super().__init__({"embeddings": embeddings, "labels": labels, "image": image}, limit, thumbnail, every_n_epochs)

    def write(self, writer: SummaryWriter, step: int, seen: Rows, class_names: list[str] | None) -> None:
        """Write the collected samples as one embedding."""
        labels = named(seen["labels"], class_names) if "labels" in seen else None
        images = None
        if "image" in seen:
            images = torch.from_numpy(pixels(seen["image"], self.thumbnail)).permute(0, 3, 1, 2) / 255
        writer.add_embedding(seen["embeddings"], labels, images, step, tag="embeddings")
