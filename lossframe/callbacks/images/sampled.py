"""Base class of images that show a random subset of an evaluation's samples."""

from abc import ABC
from collections.abc import Mapping

from torch import Tensor

from lossframe.callbacks.images.base import ImageCallback
from lossframe.callbacks.images.sampling import Rows, Samples
from lossframe.callbacks.images.thumbnails import LARGEST, thumbnails
from lossframe.counts import check_counts


class SampledImages(ImageCallback, ABC):
    """Abstract base: collects `limit` samples with `embeddings`, and `labels` and thumbnails of `image` if read."""

    def __init__(
        self, entries: Mapping[str, str | None], limit: int, thumbnail: int, every_n_epochs: int | None
    ) -> None:
        super().__init__(entries, every_n_epochs)
        check_counts(self, limit=limit)
        check_counts(self, most=LARGEST, thumbnail=thumbnail)
        self.limit = limit
        self.thumbnail = thumbnail
        self.start()

    def start(self) -> None:
        """Drop the samples of an earlier evaluation."""
        self._samples = Samples(self.limit, self._compact)

    def add(self, batch_idx: int, entries: Mapping[str, Tensor]) -> None:
        """Collect samples of this rank's part of a batch."""
        self._samples.add(batch_idx, entries)

    def gather(self) -> Rows | None:
        """Return the collected samples of all ranks, or None if there are none."""
        return self._samples.gather() or None

    def _compact(self, rows: Rows) -> Rows:
        """Flatten embeddings to float32, and shrink images to thumbnails."""
        compacted = rows | {"embeddings": rows["embeddings"].flatten(1).float()}
        return compacted | ({"image": thumbnails(rows["image"], self.thumbnail)} if "image" in rows else {})
