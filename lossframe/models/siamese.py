"""Embeds the two or three images of each row with one network."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from lossframe.errors import InputError, names


class Siamese(nn.Module):
    """Embeds pairs or triplets of images with one `embedder`, a model that gives `embeddings` for `image`.

    The model reads `images` [N, 2, C, H, W] or [N, 3, C, H, W]. Of pairs it returns their Euclidean `distance` [N], and
    `scores` [N], minus the distance. Of triplets it returns the embeddings `anchor`, `positive` and `negative` [N, D].
    `embeddings` [N, D] are those of the first image. A batch may be empty.
    """

    provides: ClassVar[frozenset[str]] = frozenset(
        {"anchor", "distance", "embeddings", "negative", "positive", "scores"}
    )

    def __init__(self, embedder: nn.Module) -> None:
        super().__init__()
        self.embedder = embedder

    def forward(self, frame: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the entries that the model adds to the frame."""
        first, *others = self._embedded(frame).unbind(1)
        if len(others) == 1:
            distance = F.pairwise_distance(first, others[0])
            return {"distance": distance, "scores": -distance, "embeddings": first}
        positive, negative = others
        return {"anchor": first, "positive": positive, "negative": negative, "embeddings": first}

    def _embedded(self, frame: Mapping[str, Tensor]) -> Tensor:
        """Return the embeddings [N, 2, D] or [N, 3, D] of all images, embedded as one batch."""
        if "images" not in frame:
            raise InputError(
                f"Siamese reads 'images', pairs or triplets, but the frame holds only {names(frame)}: choose "
                "data=digit_pairs or data=digit_triplets"
            )
        images = frame["images"]
        if images.ndim < 3 or images.shape[1] not in (2, 3):
            raise InputError(
                f"Siamese reads 'images' [N, 2, C, H, W] or [N, 3, C, H, W], but was given {list(images.shape)}"
            )
        entries: Mapping[str, Tensor] = self.embedder({"image": images.flatten(0, 1)})
        if "embeddings" not in entries:
            raise InputError(
                f"Siamese wants an embedder that gives 'embeddings', but {type(self.embedder).__name__} gave "
                f"{names(entries)}"
            )
        embeddings = entries["embeddings"]
        return embeddings.reshape(*images.shape[:2], embeddings.shape[1])
