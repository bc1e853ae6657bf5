"""Pictures of some of an epoch's samples."""

from abc import ABC
from collections.abc import Mapping

from torch import Tensor

from lossframe.callbacks.images.base import Picture
from lossframe.callbacks.images.sampling import Rows, Samples
from lossframe.callbacks.images.thumbnails import thumbnails
from lossframe.errors import InputError


class SampledPicture(Picture, ABC):
    """Abstract: a picture of `limit` samples with `embeddings` and perhaps `labels` and `image`, kept as thumbnails."""

    def __init__(
        self, entries: Mapping[str, str | None], limit: int, thumbnail: int, every_n_epochs: int | None
    ) -> None:
        super().__init__(entries, every_n_epochs)
        if limit < 1 or thumbnail < 1:
            raise InputError(f"{type(self).__name__}: wanted limit and thumbnail >= 1, found {limit} and {thumbnail}")
        self.limit = limit
        self.thumbnail = thumbnail
        self.start()

    def start(self) -> None:
        """Forget what was seen."""
        self._samples = Samples(self.limit, self._compact)

    def add(self, batch_idx: int, entries: Mapping[str, Tensor]) -> None:
        """See this rank's part of a batch."""
        self._samples.add(batch_idx, entries)

    def gather(self) -> Rows | None:
        """Return the samples of all ranks."""
        return self._samples.gather() or None

    def _compact(self, rows: Rows) -> Rows:
        compacted = rows | {"embeddings": rows["embeddings"].flatten(1).float()}
        return compacted | ({"image": thumbnails(rows["image"], self.thumbnail)} if "image" in rows else {})
